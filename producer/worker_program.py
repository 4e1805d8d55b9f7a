"""Running a program of the worker's on this machine, since the command line itself imports no TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from worker.settings import Settings


def run_worker_program(
    settings: Settings, module: str, arguments: Sequence[str | Path], text: str | None = None
) -> int:
    """Run `python -m MODULE ARGUMENTS`, with `text` as its standard input; its output is ours.

    Paths among the arguments must be absolute. Returns the exit status.
    """
    environment = {
        **os.environ,
        **settings.as_environment(),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *map(str, arguments)],
        env=environment,
        # Our packages, not what happens to be called `worker` where the user stands.
        cwd=Path(__file__).resolve().parent.parent,
        input=text,
        text=True,
        check=False,
    )
    return done.returncode
