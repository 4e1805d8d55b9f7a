"""What the log of a worker is said to have ended with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker.supervisor.supervisor import Supervisor

NO_GPU = "E0000 00:00:1.2 16985 cuda_platform.cc:52] failed call to cuInit: INTERNAL: UNKNOWN ERROR (303)"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (NO_GPU, ""),
        (f"[ERROR] the store is away\n{NO_GPU}", "[ERROR] the store is away"),
        (f"{NO_GPU}\nValueError: no such layer\n{NO_GPU}", "ValueError: no such layer"),
        ("[2026] CRITICAL lost\nfine", "[2026] CRITICAL lost"),
    ],
)
def test_that_there_is_no_gpu_is_no_error(log: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    file.write_text(log + "\n")
    supervisor: Any = SimpleNamespace(log_of=lambda _: file)
    node: Any = SimpleNamespace(log_start=0)
    assert Supervisor.last_error_of(cast(Supervisor, supervisor), node) == said
