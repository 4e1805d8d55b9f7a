"""Stands in for `worker.tensorflow_import` where a stand-in explains: nothing is imported."""


def import_tensorflow() -> None:
    """Nothing needs it."""
