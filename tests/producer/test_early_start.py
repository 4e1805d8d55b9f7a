"""Broker and workers that were started early belong to a run, or end with the block."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.early_start import early_start
from worker.environment import is_alive
from worker.settings import load_settings


@pytest.mark.slow
def test_what_no_run_takes_over_is_ended_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    with early_start(load_settings(), "none", tmp_path) as early:
        assert early is not None
        assert early.broker is not None
        broker = early.broker
        (worker,) = early.workers.values()
        pids = [broker.pid or 0, worker.process.pid]
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)
    assert not broker.folder.exists()


def test_nothing_is_started_for_a_folder_that_is_not_there(home: Path, tmp_path: Path) -> None:
    with early_start(load_settings(), "none", tmp_path / "nowhere") as early:
        assert early is None
    with early_start(load_settings(), "none", "dicomweb+https://pacs.example/dicom-web") as early:
        assert early is None
    assert not (home / "logs").exists()


def test_a_gpu_that_is_not_there_is_told_by_the_run_and_starts_nothing(home: Path, tmp_path: Path) -> None:
    with early_start(load_settings(), "97", tmp_path) as early:
        assert early is None
    assert not (home / "logs").exists()
