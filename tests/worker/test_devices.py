"""Which devices `--gpus` stands for, with stand-ins for nvidia-smi and for the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import XraycamError
from worker.supervisor.devices import CPU, Device, devices_for, list_gpus


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0\necho 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("two_gpus")
def test_all_means_one_worker_per_gpu() -> None:
    assert devices_for("all") == [Device("gpu0", "0"), Device("gpu1", "1")]


@pytest.mark.usefixtures("two_gpus")
def test_numbers_choose_gpus_and_repetitions_count_once() -> None:
    assert devices_for("1,1") == [Device("gpu1", "1")]


@pytest.mark.usefixtures("two_gpus")
def test_none_means_one_worker_that_sees_no_gpu() -> None:
    assert devices_for("none") == [CPU]
    assert CPU.visible == "-1"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("wanted", ["2", "0,7", "one", ","])
def test_gpus_that_are_not_there_are_refused_with_those_that_are(wanted: str) -> None:
    with pytest.raises(XraycamError, match="0, 1"):
        devices_for(wanted)


def test_environment_narrows_what_all_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-12ab")
    assert list_gpus() == ["3", "GPU-12ab"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices_for("all") == [CPU]


def test_machine_without_gpus_has_one_worker_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices_for("all") == [CPU]
