"""The command `xraycam`, started with variables of other projects out of the way.

A PYTHONPATH of somebody else may hold a `worker`, a `db` or a broken package; PYTHONWARNINGS=error, -W error
and PYTHONOPTIMIZE change how libraries behave. Python has read these before we run: it is started again
without them. Until then nothing but the standard library is imported.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from fnmatch import fnmatchcase

_HARMLESS = {
    "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX", "PYTHONNOUSERSITE", "PYTHONHASHSEED", "PYTHONFAULTHANDLER", "PYTHONSTARTUP",
}  # fmt: skip
_RESTARTED = "_XRAYCAM_RESTARTED"


def _restart_without_foreign_python_settings() -> None:
    kept = [part.strip() for part in os.environ.get("XRAYCAM_KEEP_ENV", "").split(",")]
    foreign = [
        name
        for name in os.environ
        if name.startswith("PYTHON")
        and name not in _HARMLESS
        and not any(fnmatchcase(name, pattern) for pattern in kept)
    ]
    if _RESTARTED in os.environ:
        del os.environ[_RESTARTED]
    elif foreign or sys.warnoptions or sys.flags.optimize:
        environment = {name: value for name, value in os.environ.items() if name not in foreign}
        command = [sys.executable, "-P", "-m", "xraycam", *sys.argv[1:]]
        os.execve(sys.executable, command, environment | {_RESTARTED: "1"})  # noqa: S606 - ourselves


def _open_standard_streams() -> None:
    """Have 0, 1 and 2 stand for streams, if closed ones (`>&-`) for nowhere.

    Else the next files that are opened, such as the ledger, get these numbers, and what native libraries
    print goes into them.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number, inheritable=True)
                os.close(opened)
            else:
                os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays open


class _Ending:
    """Ends the process once all that was registered is put away, without taking the interpreter apart.

    Threads of native libraries that still run would abort it then, and a late Ctrl-C end it by the signal.
    """

    def __init__(self) -> None:
        self.status = 1  # of an error that nobody caught
        # The first to be registered is the last to be called.
        atexit.register(self._leave)

    def _leave(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.status)


def main() -> None:
    """Run the command line."""
    _open_standard_streams()
    _restart_without_foreign_python_settings()
    ending = _Ending()
    from worker.environment import clean_environment

    clean_environment()
    # Imports make objects that stay, and the usual threshold looks for garbage among them every 700.
    gc.set_threshold(20_000, 10, 10)
    from producer.cli import main as run_command_line

    try:
        run_command_line()
    except SystemExit as end:
        ending.status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:  # after the command had ended
        ending.status = 130


if __name__ == "__main__":
    main()
