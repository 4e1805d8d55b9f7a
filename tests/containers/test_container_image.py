"""What the image is made of: pinned, hashed packages, installed and run by nobody special."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCKS = {"requirements.lock": (), "requirements-gpu.lock": ("gpu",)}


def pins(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: dict[str, tuple[str, list[str]]] = {}
    for line in lines:
        pin = re.match(r"([\w.-]+)==([\w.!+-]+)", line)
        assert pin, f"not pinned: {line}"
        found[canonicalize_name(pin[1])] = (pin[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_every_direct_dependency_within_its_bounds(lock: str) -> None:
    locked = pins(lock)
    wanted = PROJECT["dependencies"] + [
        item for extra in LOCKS[lock] for item in PROJECT["optional-dependencies"][extra]
    ]
    for line in wanted:
        requirement = Requirement(line)
        version, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{line}: locked at {version}"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes(lock: str) -> None:
    assert all(hashes for _, hashes in pins(lock).values())


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_index_and_no_machine(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", text, re.MULTILINE
    )
    assert not re.search(r"(^|[\s=])/\w", text)


def test_gpu_lock_is_the_cpu_lock_and_the_libraries_of_the_gpu() -> None:
    cpu, gpu = pins("requirements.lock"), pins("requirements-gpu.lock")
    assert {name: gpu[name] for name in cpu} == cpu
    extra = set(gpu) - set(cpu)
    assert extra
    assert all(name.startswith("nvidia-") for name in extra)


def test_build_tool_of_the_project_is_locked_too() -> None:
    requirement = Requirement(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"][0]
    )
    version, _ = pins("requirements.lock")[requirement.name]
    assert requirement.specifier.contains(version)


def test_image_runs_as_nobody_special() -> None:
    users = re.findall(r"^USER\s+(\S+)", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1].split(":")[0] not in ("root", "0")


def test_image_installs_only_what_the_lock_has_hashes_for() -> None:
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--no-deps" in installs[1]
    assert "--no-build-isolation" in installs[1]


def test_everything_the_dockerfile_copies_is_let_in_and_nothing_else() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignore if line.startswith("!")}
    assert {"db", "producer", "worker"} <= copied


def test_image_has_the_python_the_lock_was_made_for() -> None:
    version = re.search(r"^ARG PYTHON=(\S+)", DOCKERFILE, re.MULTILINE)
    assert version
    for lock in LOCKS:
        assert f"with Python {version[1]}\n" in (ROOT / lock).read_text()
