"""An S3 server over HTTP for the tests of this room, empty for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from db.migrate import migrate
from tests.support.installation import Installation, InstallModel
from tests.support.object_store import ObjectStore
from worker.remote.calls import file_system


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectStore]:
    store = ObjectStore()
    yield store
    store.close()


@pytest.fixture
def object_store(object_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A running server with an empty bucket, of which the environment tells."""
    object_server.reset()
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    # Adaptive retries remember that the server was busy.
    file_system.cache_clear()
    S3FileSystem.clear_instance_cache()
    return object_server


@pytest.fixture
def made(object_store: ObjectStore, tmp_path: Path, model_store: InstallModel) -> Iterator[Installation]:
    """An installation that reaches the server, with a stand-in for the network."""
    installation = Installation(tmp_path, chunk_size=8, log_level="DEBUG")
    installation.environment |= object_store.environment
    installation.without_tensorflow()
    migrate(installation.ledger)
    model_store(installation.ledger, installation.home)
    yield installation
    installation.stop_all()
