"""Keras files of other people as models of ours: read as data, rebuilt from a list of known layers."""
