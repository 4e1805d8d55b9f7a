"""A command ends with its own status, whatever threads of libraries still do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEFORE = """
import atexit, os, sys, producer.cli, xraycam
class Left:
    def __del__(self, write=os.write):
        write(1, b"taken apart")
sys.left = Left()
def command():
    atexit.register(print, "put away")
    {}
producer.cli.main = command
xraycam.main()
"""


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ("sys.exit(3)", 3),
        ("sys.exit()", 0),
        ("sys.exit('words')", 1),
        ("raise KeyboardInterrupt", 130),
        ("1 / 0", 1),
    ],
)
def test_what_is_registered_is_put_away_and_the_interpreter_is_not_taken_apart(
    ends: str, status: int
) -> None:
    # With it the command starts itself again, which has no file here.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", BEFORE.format(ends)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, "put away\n")
    assert ("ZeroDivisionError" in done.stderr) is (ends == "1 / 0")
