"""Variables, packages and settings of a person's other projects neither change nor stop a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installation import Installation, draw_many


def broken_packages(folder: Path, *names: str) -> Path:
    """A folder for PYTHONPATH with packages that fail when they are imported."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"raise ImportError('this {name} is of another project')\n"
        )
    return folder


def test_variables_of_other_projects_do_not_reach_the_workers(installation: Installation) -> None:
    keras = installation.folder / "keras"
    keras.mkdir()
    (keras / "keras.json").write_text(
        json.dumps({"backend": "torch", "image_data_format": "channels_first", "floatx": "float64"})
    )
    installation.environment |= {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "KERAS_BACKEND": "torch",
        "KERAS_HOME": str(keras),
        "TF_USE_LEGACY_KERAS": "1",
        "TF_XLA_FLAGS": "--no_such_flag",
        "XLA_FLAGS": "--no_such_flag",
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "CELERY_LOADER": "nowhere.Loader",
        "CELERY_CONFIG_MODULE": "nowhere",
        "C_FORCE_ROOT": "perhaps",
        "NO_COLOR": "please",
        "PGCLIENTENCODING": "LATIN1",
    }
    installation.xraycam("run", draw_many(installation.folder / "xrays", 3))
    assert installation.counts() == {"images": 3, "done": 3}


def test_packages_of_others_on_pythonpath_are_not_imported(installation: Installation) -> None:
    names = ("worker", "db", "producer", "numpy", "click", "tensorflow", "keras", "celery")
    folder = broken_packages(installation.folder / "theirs", *names)
    (folder / "sitecustomize.py").write_text("import sys; sys.modules['json'] = None\n")
    installation.environment |= {
        "PYTHONPATH": str(folder), "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONINSPECT": "1",
    }  # fmt: skip
    installation.xraycam("run", draw_many(installation.folder / "xrays", 3))
    assert installation.counts() == {"images": 3, "done": 3}
    assert "imports" in installation.xraycam("doctor").stdout
    assert "Explain every X-ray" in installation.xraycam("run", "--help").stdout


def test_python_started_with_errors_for_warnings_runs(installation: Installation) -> None:
    xrays = draw_many(installation.folder / "xrays", 2)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-OO", "-m", "xraycam", "run", str(xrays)],
        env=installation.environment, cwd=installation.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert installation.counts() == {"images": 2, "done": 2}


@pytest.mark.parametrize("how", ["raises", "dies"])
def test_a_worker_that_cannot_start_ends_the_run_and_says_why(installation: Installation, how: str) -> None:
    theirs = broken_packages(installation.folder / "theirs", "tensorflow")
    if how == "dies":
        (theirs / "tensorflow" / "__init__.py").write_text("import os; os._exit(9)\n")
    installation.environment |= {"PYTHONPATH": str(theirs), "XRAYCAM_KEEP_ENV": "PYTHONPATH"}
    xrays = draw_many(installation.folder / "xrays", 3)

    done = installation.xraycam("run", xrays, status=2, seconds=150)

    last = done.stderr.strip().splitlines()[-1]
    assert "the workers end as soon as they are started" in last
    assert ("this tensorflow is of another project" if how == "raises" else "died each time") in last
    assert done.stderr.count("sent again") <= 1
    checked = installation.xraycam("doctor", status=2).stdout
    assert "workers cannot start" in checked
    assert "XRAYCAM_KEEP_ENV=PYTHONPATH" in checked
