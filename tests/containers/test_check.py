"""The service `check` refuses placeholders, and folders that cannot be used, before a server starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.compose import GROUP, PASSWORD, USER, Project
from tests.support.container import Container
from tests.support.network_namespaces import Host


@pytest.fixture
def usable(project: Project) -> Project:
    """A project with which nothing is wrong."""
    project.images.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(project.data, USER, GROUP)
    return project


def complaints(project: Project, host: Host, *files: str) -> list[str]:
    folders = {"/images": project.images, "/data": project.data}
    done = Container(project.services(*files)["check"], "check", host, folders).run()
    lines = done.stderr.splitlines()
    assert done.returncode == (1 if lines else 0)
    assert all(line.startswith("xraycam: ") for line in lines)
    return lines


def test_a_filled_in_env_file_is_accepted(usable: Project, host: Host) -> None:
    assert complaints(usable, host) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("VALKEY_PASSWORD", "CHANGE", "is a placeholder"),
        ("POSTGRES_PASSWORD", "change-me-please", "is a placeholder"),
        ("FLOWER_PASSWORD", "your-password-here", "is a placeholder"),
        ("FLOWER_USER", "your_name", "is a placeholder"),
        ("VALKEY_PASSWORD", "Password1234", "is a placeholder"),
        ("POSTGRES_PASSWORD", "short7", "fewer than 12 characters"),
        ("POSTGRES_PASSWORD", "slash/hash#and@more", "other characters"),
        ("FLOWER_PASSWORD", "two,logins-by-comma", "other characters"),
        ("FLOWER_USER", "anna:x", "other characters"),
        ("XRAYCAM_IMAGES", "/path/to/xrays", "is a placeholder"),
        ("DATA_FOLDER", "/path/to/results", "is a placeholder"),
        ("COMPOSE_PROFILES", "cuda", "give cpu or gpu"),
        ("XRAYCAM_HOME", "/home/anna/xraycam", "remove it from .env"),
        ("XRAYCAM_OUTPUT", "/home/anna/overlays", "write /data/..."),
        ("XRAYCAM_MODELS", "/srv/models", "write /data/..."),
        ("SERVERS_ADDRESS", "0.0.0.0", "every network"),  # noqa: S104 - refused
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(
    usable: Project, host: Host, name: str, value: str, said: str
) -> None:
    usable.set(**{name: value})
    (line,) = complaints(usable, host)
    assert name in line
    assert said in line
    if "PASSWORD" in name:
        assert value not in line


@pytest.mark.parametrize("value", ["stock-exchange-77", PASSWORD, "1f3e5a7b9c1d3f5e7a9b", "a.b_c~d-e.f_g"])
def test_a_password_of_ones_own_is_accepted(usable: Project, host: Host, value: str) -> None:
    usable.set(VALKEY_PASSWORD=value, POSTGRES_PASSWORD=value, FLOWER_PASSWORD=value)
    assert complaints(usable, host) == []


def test_folders_that_the_user_cannot_use_are_named(usable: Project, host: Host) -> None:
    usable.images.chmod(0o700)
    usable.data.chmod(0o500)
    images, data = complaints(usable, host)
    assert f"user 1234:100 cannot read XRAYCAM_IMAGES={usable.images}" in images
    assert f"user 1234:100 cannot write to DATA_FOLDER={usable.data}" in data


def test_results_within_the_images_are_refused(usable: Project, host: Host, tmp_path: Path) -> None:
    usable.set(XRAYCAM_IMAGES=f"{tmp_path}/", DATA_FOLDER=str(usable.data))
    (line,) = complaints(usable, host)
    assert "DATA_FOLDER is within XRAYCAM_IMAGES" in line


def test_the_check_leaves_nothing_behind(usable: Project, host: Host) -> None:
    assert complaints(usable, host) == []
    assert list(usable.data.iterdir()) == []
