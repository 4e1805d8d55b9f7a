"""From the bytes of a file to gray pixels, the input of a network, and the areas annotated in it."""
