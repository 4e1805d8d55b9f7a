"""The command line answers at once: only commands that compute import TensorFlow, and when they run."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import db
import producer
from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model
from producer.cli import COMMANDS
from producer.enqueue import Request, enqueue
from worker.settings import load_settings

HEAVY = {"tensorflow", "keras", "sklearn", "matplotlib"}
# What a command that only reads the ledger need not load either.
UNUSED = {
    *HEAVY,
    "celery",
    "kombu",
    "numpy",
    "PIL",
    "scipy",
    "pyarrow",
    "pydicom",
    "tifffile",
    "imagecodecs",
    "tenacity",
    "alembic",
    "sqlalchemy.dialects.postgresql",
    "worker.model.metadata",
}
MODULES = [
    module.name for module in pkgutil.walk_packages(producer.__path__, "producer.") if not module.ispkg
]


def loaded(code: str, packages: set[str] = HEAVY) -> str:
    """Those of `packages` that are loaded once `code` has run in a process of its own."""
    script = f"import sys\n{code}\nprint('loaded:', sorted({packages} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def command(*arguments: str) -> str:
    return f"""
from producer.cli import main
sys.argv = ["xraycam", *{list(arguments)!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_no_module_of_the_producer_imports_tensorflow() -> None:
    assert "producer.enqueue" in MODULES
    imports = "\n".join(f"import {name}" for name in MODULES)
    assert loaded(imports) == "loaded: []"


def test_no_module_of_the_ledger_imports_anything_of_ours() -> None:
    modules = [f"db.{module.name}" for module in pkgutil.iter_modules(db.__path__)]
    check = "assert not {'producer', 'worker'} & set(sys.modules)"
    assert loaded(f"import {', '.join(modules)}\n{check}") == "loaded: []"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["runs"]])
def test_what_computes_nothing_loads_nothing_to_compute_with(arguments: list[str]) -> None:
    migrate(Ledger(load_settings().database))
    assert loaded(command(*arguments), UNUSED) == "loaded: []"


def test_the_help_of_every_command_loads_nothing_to_compute_with() -> None:
    every = f"""
from producer.cli import cli
for name in {list(COMMANDS)!r}:
    cli.main([name, "--help"], standalone_mode=False)
"""
    assert loaded(every, UNUSED) == "loaded: []"


def test_enqueue_and_results_run_without_tensorflow(
    home: Path, tmp_path: Path, model_store: Callable[[Ledger, Path], Model]
) -> None:
    ledger = Ledger(load_settings().database)
    migrate(ledger)
    model_store(ledger, home)
    (tmp_path / "xrays").mkdir()
    (tmp_path / "xrays" / "a.png").touch()
    assert loaded(command("enqueue", str(tmp_path / "xrays"), "--dry-run")) == "loaded: []"
    enqueue(ledger, load_settings(), Request(tmp_path / "xrays"))
    for form in ("table", "csv", "json", "jsonl"):
        assert loaded(command("results", "1", "--format", form), UNUSED) == "loaded: []"
    assert loaded(command("watch", "1", "--once"), UNUSED) == "loaded: []"
