"""Images and overlays in object stores, by fsspec."""
