"""A project with its `.env` filled in, and a network for its containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose import GROUP, USER, Project
from tests.support.container import Container
from tests.support.installation import unavailable
from tests.support.network_namespaces import Host, Network
from tests.support.servers import CannotStart


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    try:
        network = Network("containers")
    except CannotStart as error:
        unavailable(str(error))
    yield network
    network.remove()


@pytest.fixture(scope="session")
def host(network: Network) -> Host:
    """Where the containers run: all in one, as the services of one project see each other."""
    host = network.hosts["containers"]
    nothing = {"image": "none", "user": "1234:1234", "read_only": True, "entrypoint": ["true"]}
    try:
        done = Container(nothing, "probe", host).run()
    except CannotStart as error:
        unavailable(str(error))
    if done.returncode:
        unavailable(f"no root file system for containers: {done.stderr.strip()}")
    return host


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path, RUN_UID=str(USER), RUN_GID=str(GROUP))
    for folder in (project.images, project.data):
        folder.mkdir()
    return project
