"""Imports what a worker imports, as a worker does: `python -m worker.supervisor.check_imports`."""

from __future__ import annotations

import sys


def main() -> None:
    """Print the versions on standard output; a failed import ends in its traceback."""
    import keras
    import tensorflow as tf

    import worker.serve.chunk  # noqa: F401 - with all that a worker needs

    backend = keras.backend.backend()
    if backend != "tensorflow":
        sys.exit(f"Error: Keras computes with {backend}, not with TensorFlow")
    sys.stdout.write(f"TensorFlow {tf.__version__}, Keras {keras.__version__}\n")


if __name__ == "__main__":
    main()
