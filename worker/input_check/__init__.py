"""Whether an image is one to ask the model about: a radiograph of the chest, upright, not inverted."""
