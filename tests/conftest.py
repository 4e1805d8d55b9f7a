"""Real servers, a ledger on both databases, settings of the test's own, and a small real model."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model, add_model, current_model
from tests.support.installation import Installation, InstallModel, unavailable
from tests.support.servers import CannotStart, Postgres, Valkey
from worker.model.kept_copy import copy_folder
from worker.model.metadata import digest_of
from worker.model.store import ModelStore
from worker.settings import PREFIX, load_settings

TESTS = Path(__file__).parent
# Rooms whose tests start workers, train or kill servers. They are begun first, since they take longest, and
# are mixed, since some mostly wait and others mostly compute.
SLOW = ("faults", "system", "train_task", "train", "remote", "trust", "containers", "hostile", "pacs")
# Rooms whose long tests share nothing dear with their file: each goes to whichever process is free.
SINGLE = ("faults", "system", "train_task", "train", "remote")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults-table", type=Path, metavar="FILE", help="write what the tests of faults measured to FILE"
    )


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests start, also where we run in the background of a shell: it
    has background jobs ignore it, and their children inherit that.

    Let Python keep compiled modules: hundreds of commands would compile the product anew.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def room(item: pytest.Item) -> str:
        return item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""

    for item in items:
        if room(item) in SLOW:
            item.add_marker(pytest.mark.slow)
        if room(item) == "faults":
            item.add_marker(pytest.mark.faults)
    sizes, seen = Counter(map(room, items)), Counter[str]()

    def place(item: pytest.Item) -> float:
        seen[room(item)] += 1
        return seen[room(item)] / sizes[room(item)] if room(item) in SLOW else 2.0

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist=loadfile` as ever, but for the rooms in SINGLE, which go test by test, and in our order: xdist
    would begin with the files of most tests, and end with one process at work on the slowest file."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return nodeid if any(f"/{room}/" in f"/{file}" for room in SINGLE) else file

    config.option.loadscopereorder = False
    return Scheduler(config, log)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Commands run inside this process set theirs; it must not reach the next test."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    server = Valkey()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """A running, empty Valkey; a test may kill and restart it."""
    if not valkey_server.is_running():
        valkey_server.start()
    valkey_server.client().flushall()
    return valkey_server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    server: Postgres | None = None
    try:
        server = Postgres()
        server.start()
        yield server
    except CannotStart as error:
        unavailable(str(error))
    finally:
        if server is not None:
            server.remove()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Postgres) -> str:
    """The name of a database with the ledger's tables, from which others are copied."""
    url = postgres_server.new_database()
    ledger = Ledger(url)
    migrate(ledger)
    ledger.close()
    assert ledger.url.database is not None
    return ledger.url.database


@pytest.fixture
def postgres(postgres_server: Postgres) -> Postgres:
    """A running Postgres; a test may stop and start it."""
    if not postgres_server.is_running():
        postgres_server.start()
    return postgres_server


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of the test's own, without tables: once in SQLite, once in Postgres."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of the test's own, with its tables: once in SQLite, once in Postgres."""
    if request.param == "sqlite":
        ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
        migrate(ledger)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        ledger = Ledger(server.new_database(request.getfixturevalue("migrated_template")))
    yield ledger
    ledger.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XRAYCAM_HOME in a folder of the test's own, and no other setting of xraycam in the environment."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("XRAYCAM_HOME", str(folder))
    load_settings.cache_clear()
    yield folder
    load_settings.cache_clear()


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights, made by another process: this one stays free of TensorFlow.

    Made once for all processes of xdist, whose folders lie in one. Not to be changed.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "model" / "small"
    with (shared / "model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = tmp_path_factory.mktemp("model")
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
            made = subprocess.run(
                [sys.executable, "-m", "tests.support.small_model", str(unfinished / folder.name)],
                cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
            unfinished.rename(folder.parent)
    return folder


@pytest.fixture
def model_store(small_model: Path) -> InstallModel:
    """Puts the small model into a home's store, registers it in a ledger and makes it current."""

    def install(ledger: Ledger, home: Path) -> Model:
        copies, digest = home / "model-cache", digest_of(small_model)
        version = ModelStore(str(home / "models"), copies).publish(small_model)
        compiled = copy_folder(copies, version, digest).name + ".compiled"
        shutil.copytree(small_model.with_name("small.compiled"), copies / compiled)
        ledger.write(
            add_model,
            version=version,
            digest=digest,
            classes=("Normal", "Tuberculosis"),
            source="random weights, made by the tests",
            metrics={},
            promote=True,
        )
        model = ledger.query(current_model)
        assert model is not None
        return model

    return install


@pytest.fixture
def installation(tmp_path: Path, model_store: InstallModel) -> Iterator[Installation]:
    """An installation without servers of its own, with the small model as current."""
    made = Installation(tmp_path)
    ledger = made.ledger
    migrate(ledger)
    model_store(ledger, made.home)
    yield made
    made.stop_all()


@pytest.fixture
def distributed(
    tmp_path: Path,
    model_store: InstallModel,
    valkey: Valkey,
    request: pytest.FixtureRequest,
) -> Iterator[Installation]:
    """An installation with a broker of its own and, by parameter `postgres`, with Postgres."""
    made = Installation(tmp_path, broker_url=valkey.url)
    if getattr(request, "param", "sqlite") == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        made.set(database_url=server.new_database())
    ledger = made.ledger
    migrate(ledger)
    model_store(ledger, made.home)
    yield made
    made.stop_all()
