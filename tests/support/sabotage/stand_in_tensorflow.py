"""Stands in for `worker.tensorflow_import` where a stand-in explains: nothing is imported."""


def import_tensorflow() -> None:
    """Nothing needs it."""


def import_tensorflow_when_used() -> None:
    """Nothing uses it."""
