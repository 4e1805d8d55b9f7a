"""Synthetic chest radiographs with known lesions: to try the product out, never to train for use."""

from producer.phantoms.folder import CLASSES, make_phantoms

__all__ = ["CLASSES", "make_phantoms"]
