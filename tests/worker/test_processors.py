"""How many processors there are: by affinity, by the quota of any control group above us, for each device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import worker.processors as processors_module
import worker.settings as settings_module
from worker.processors import processors_of_each, usable_processors
from worker.settings import Settings

PINNED = len(os.sched_getaffinity(0))


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 processors, none of them forbidden."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def groups(folder: Path, own: str, **quotas: str) -> tuple[Path, Path]:
    """Files as the kernel shows them: this process is in `own`; the groups at these paths have quotas."""
    (folder / "own").write_text(own)
    for path, quota in quotas.items():
        group = folder / "groups" / path.replace("__", "/").removeprefix("root")
        group.mkdir(parents=True, exist_ok=True)
        (group / "cpu.max").write_text(f"{quota}\n")
    return folder / "groups", folder / "own"


def test_a_process_that_is_pinned_counts_what_it_is_pinned_to() -> None:
    one = min(os.sched_getaffinity(0))
    code = "from worker.processors import usable_processors; print(usable_processors())"
    pinned = [
        sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{one}}}); {code}"
    ]  # fmt: skip
    assert subprocess.run(pinned, capture_output=True, text=True, check=True).stdout == "1\n"
    assert usable_processors(Path("/nowhere"), Path("/nowhere/own")) == PINNED


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({"a__b": "max 100000"}, 16),
        ({"a__b": "400000 100000"}, 4),
        ({"a__b": "150000 100000"}, 2),  # the half of a second one is not left idle
        ({"a__b": "20000 100000"}, 1),
        ({"a": "300000 100000", "a__b": "max 100000"}, 3),  # of the group above
        ({"a": "300000 100000", "a__b": "800000 100000"}, 3),
        ({"root": "500000 100000"}, 5),  # a container whose own group is mounted at the top
        ({"a__b": "9900000 100000"}, 16),
        ({"other": "100000 100000"}, 16),
        ({"a__b": "nonsense"}, 16),
        ({"a__b": "100000 0"}, 16),
    ],
)
def test_the_least_quota_of_the_groups_counts(tmp_path: Path, quotas: dict[str, str], expected: int) -> None:
    assert usable_processors(*groups(tmp_path, "0::/a/b\n", **quotas)) == expected


@pytest.mark.usefixtures("sixteen")
def test_quotas_of_the_first_version_count_too(tmp_path: Path) -> None:
    group = tmp_path / "groups" / "cpu,cpuacct" / "docker"
    group.mkdir(parents=True)
    (group / "cpu.cfs_period_us").write_text("50000\n")
    (tmp_path / "own").write_text("5:memory:/x\n4:cpu,cpuacct:/docker\n0::/\n")
    for quota, expected in (("-1", 16), ("300000", 6)):
        (group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        assert usable_processors(tmp_path / "groups", tmp_path / "own") == expected


def test_devices_share_the_processors_and_each_has_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors_module, "usable_processors", lambda: 13)
    assert [processors_of_each(devices) for devices in (1, 2, 4, 8, 16)] == [13, 6, 3, 1, 1]


@pytest.mark.parametrize(
    ("settings", "threads", "on_a_cpu", "on_a_gpu"),
    [
        ({}, 16, 16, 16),
        ({"threads": 1}, 1, 1, 1),
        ({"threads": 2}, 2, 1, 2),
        ({"threads": 3}, 3, 3, 3),
        ({"processes": 1}, 16, 1, 1),
        ({"threads": 4, "processes": 2}, 4, 2, 2),
    ],
)
def test_threads_follow_the_processors_and_processes_the_threads(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], threads: int, on_a_cpu: int, on_a_gpu: int
) -> None:
    monkeypatch.setattr(settings_module, "usable_processors", lambda: 16)
    found = Settings(**settings)
    assert found.worker_threads == threads
    assert found.worker_processes(on_cpu=True) == on_a_cpu
    assert found.worker_processes(on_cpu=False) == on_a_gpu
