"""Running a program of the worker's on this machine, since the command line itself imports no TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from producer.exit_status import USAGE_ERROR
from worker.environment import child_environment, python_command
from worker.settings import Settings

STANDARD_ERROR = 2


def run_worker_program(
    settings: Settings, module: str, arguments: Sequence[str | Path], text: str | None = None
) -> int:
    """Run `python -m MODULE ARGUMENTS` with `text` as its standard input; returns its exit status.

    Paths among the arguments must be absolute. What it prints goes to our standard error; what native
    libraries put on its own standard error is shown only if it fails for no reason that it prints.
    """
    environment = child_environment(
        settings, TF_CPP_MIN_LOG_LEVEL=os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")
    )
    done = subprocess.run(
        [*python_command(module), *map(str, arguments)],
        env=environment,
        # Our packages, not what happens to be called `worker` where the user stands.
        cwd=Path(__file__).resolve().parent.parent,
        input=text,
        text=True,
        stdout=STANDARD_ERROR,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode not in (0, USAGE_ERROR):
        sys.stderr.write(done.stderr)
    return done.returncode
