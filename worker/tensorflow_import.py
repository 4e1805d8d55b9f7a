"""TensorFlow in our processes: without the packages that it does not need, and without its messages."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from worker.environment import child_environment
from worker.settings import Settings

_OPTIONAL = ("sklearn", "matplotlib", "pandas")


def import_tensorflow() -> None:
    """Import TensorFlow and Keras without the packages that Keras loads only for its optional wrappers.

    `import keras` tries scikit-learn (keras.wrappers), matplotlib.pyplot (keras.visualization) and pandas,
    each inside `try: ... except ImportError`, and works without; together they take a third of the time and
    85 MB. `None` in `sys.modules` makes an import fail (Python reference, "The module cache"). The entries
    are removed afterwards, so that code which needs the packages still gets them. Call it before any other
    module imports TensorFlow, while no other thread imports anything.
    """
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # None hides a module
    try:
        import keras  # noqa: F401 - is imported while matplotlib and scikit-learn are hidden
        import tensorflow  # noqa: F401 - is imported while matplotlib and scikit-learn are hidden
    finally:
        for name in hidden:
            del sys.modules[name]


class _ImportedWhenUsed(ModuleType):
    """Stands for a package of which parts are imported by themselves; the whole is, once it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _import_whole()
        return getattr(sys.modules[self.__name__], name)


_stand_ins: dict[str, _ImportedWhenUsed] = {}
_lock = threading.RLock()


def import_tensorflow_when_used() -> None:
    """Have TensorFlow and Keras imported when their first name is used, rather than now, on a CPU.

    What runs a compiled pass (`worker/explain/compiled_pass.py`) needs a tenth of TensorFlow's modules, and
    no Keras. Where accelerators may have to be found, or parts cannot be imported, all is imported now.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") != "-1" or {"tensorflow", "keras"} & set(sys.modules):
        import_tensorflow()
        return
    found = importlib.util.find_spec("tensorflow")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders or any((Path(folder).parent / "tensorflow-plugins").exists() for folder in folders):
        import_tensorflow()
        return
    for name in ("tensorflow", "keras"):
        stand_in = _ImportedWhenUsed(name)
        stand_in.__path__ = folders if name == "tensorflow" else []
        sys.modules[name] = _stand_ins[name] = stand_in
    try:
        importlib.import_module("tensorflow.python.eager.execute")
    except Exception:
        _import_whole()


def _import_whole() -> None:
    with _lock:
        if not _stand_ins:
            return
        stand_ins = dict(_stand_ins)
        _stand_ins.clear()
        for name in stand_ins:
            del sys.modules[name]
        import_tensorflow()
        for name, stand_in in stand_ins.items():
            # For modules that have imported it already.
            stand_in.__dict__.update(sys.modules[name].__dict__)


@contextmanager
def quiet_tensorflow(settings: Settings) -> Iterator[None]:
    """Keras in a command's own process as our workers have it; what native code writes to standard error is
    kept off the screen, unless the command fails by an internal error.

    Python's `sys.stderr` still reaches the screen. Enter it before anything imports TensorFlow or keeps
    `sys.stderr`. `import_tensorflow`, which takes seconds, comes after what can be refused without it.
    """
    from db.errors import LedgerError
    from worker.errors import XraycamError

    ours = child_environment(settings)
    os.environ.update({name: ours[name] for name in ("KERAS_BACKEND", "KERAS_HOME", "MPLBACKEND")})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    before = sys.stderr
    before.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as native, os.fdopen(os.dup(screen), "w", errors="replace") as stream:
        os.dup2(native.fileno(), 2)
        sys.stderr = stream
        failed = False
        try:
            yield
        except (XraycamError, LedgerError, KeyboardInterrupt):
            raise
        except Exception:
            failed = True
            raise
        finally:
            stream.flush()
            sys.stderr = before
            os.dup2(screen, 2)
            os.close(screen)
            if failed:
                native.seek(0)
                os.write(2, native.read())
