"""Retraining: from labelled folders to a model folder with its figures."""
