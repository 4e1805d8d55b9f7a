"""What the image is made of: pinned, hashed packages, installed and run by nobody special."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.container import Container
from tests.support.dockerfile import read_image
from tests.support.network_namespaces import Host

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


@pytest.mark.parametrize(
    "user",
    # Ordinary; a Mac's; Debian's `users`, `www-data` and `nobody`; root's group; one of a directory service.
    ["1000:1000", "501:20", "1000:100", "33:33", "65534:65534", "1234:0", "2000000001:2000000002"],
)
def test_image_is_made_for_any_user_and_group(user: str, host: Host) -> None:
    show = "id -u; id -g; id -un > /dev/null && id -gn > /dev/null && stat -c %u:%g:%a /data /var/lib/flower"
    service = {"image": "xraycam:cpu", "user": user, "entrypoint": ["sh", "-c", show]}
    done = Container(service, "image", host).run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*user.split(":"), f"{user}:750", "0:0:1777"]


def test_image_runs_as_the_user_it_was_made_for() -> None:
    image = read_image()
    assert image.user == "$UID:$GID"
    assert int(image.arguments["UID"]) > 0
    assert image.environment["HOME"] == "/tmp"  # noqa: S108 - in the container, where all else is read-only


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
