"""Postgres commits, and the connection breaks before its reply: what was written is written once."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, make_url, select

from db.leases import Lease, increment_attempts, lease_chunk, release_lease
from db.ledger import Ledger
from db.migrate import migrate
from db.models import add_model
from db.runs import open_run
from db.schema import chunks, images, metadata, trainings
from db.trainings import add_training, start_training


class CuttingProxy:
    """Between us and Postgres; once armed it passes the next COMMIT on, waits for the reply, and drops it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.armed = False
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                if self.armed and b"COMMIT" in data:
                    self.armed = False
                    self._swallow = server
                server.sendall(data)
        except OSError:
            pass
        finally:
            _close(server)

    _swallow: socket.socket | None = None

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                if self._swallow is server:
                    # The reply is here, so the transaction is committed; nobody hears of it.
                    self.cut += 1
                    break
                client.sendall(data)
        except OSError:
            pass
        finally:
            _close(client)
            _close(server)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@pytest.fixture
def cut(postgres: Any) -> Iterator[tuple[Ledger, CuttingProxy]]:
    """A ledger on Postgres, reached through a proxy that can cut."""
    url = make_url(postgres.new_database())
    direct = Ledger(url.render_as_string(hide_password=False))
    migrate(direct)
    proxy = CuttingProxy(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=proxy.port)
    ledger = Ledger(through.render_as_string(hide_password=False), retry_timeout=20.0)
    yield ledger, proxy
    ledger.close()
    direct.close()
    proxy.close()


def state(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, less what tells the time."""
    found = {}
    with ledger.read() as connection:
        for table in metadata.sorted_tables:
            columns = [column for column in table.columns if not column.name.endswith("_at")]
            rows = connection.execute(select(*columns)).all()
            found[table.name] = sorted(tuple(map(repr, row)) for row in rows)
    return found


RUN = {"root": "/x", "output": "/o", "options": {}, "model_version": "m", "pinned": False, "chunk_size": 4}


def leased(ledger: Ledger) -> Lease:
    found = lease_chunk(ledger, 1, 1, "worker", 60)
    assert isinstance(found, Lease)
    return found


def prepare(ledger: Ledger) -> None:
    """A run of one chunk with three images, and a queued training."""
    open_run(ledger, **RUN)

    def rows(connection: Connection) -> None:
        connection.execute(insert(chunks).values(run_id=1, number=1, images=3))
        for name in ("a", "b", "c"):
            connection.execute(insert(images).values(run_id=1, chunk=1, path=name, size=1, modified_ns=1))

    ledger.write(rows)
    train(ledger)


def train(ledger: Ledger) -> Any:
    return add_training(
        ledger, dataset="/d", recipe={"name": "default"}, init_weights="none", options={}, epochs=2
    )


WRITES: dict[str, Callable[[Ledger], Any]] = {
    "add_training": train,
    "open_run, forced": lambda ledger: open_run(ledger, **RUN, force=True),
    "increment_attempts": lambda ledger: increment_attempts(ledger, 1),
    "lease_chunk": leased,
    "release_lease": lambda ledger: release_lease(ledger, leased(ledger), "worker"),
    "start_training": lambda ledger: start_training(ledger, 1, "trainer", 60),
    "add_model": lambda ledger: add_model(
        ledger, version="v", digest="0" * 64, classes=("a", "b"), source="s", metrics={}
    ),
}


@pytest.mark.parametrize("name", list(WRITES))
def test_a_write_whose_commit_is_not_confirmed_is_done_once(
    name: str, cut: tuple[Ledger, CuttingProxy], postgres: Any
) -> None:
    undisturbed = Ledger(postgres.new_database())
    migrate(undisturbed)
    ledger, proxy = cut
    for each in (undisturbed, ledger):
        prepare(each)
    expected = WRITES[name](undisturbed)
    proxy.armed = True
    found = WRITES[name](ledger)
    assert proxy.cut == 1
    assert state(ledger) == state(undisturbed)
    # What the caller gets is that of the first time, too: no image of a leased chunk counts as tried before.
    assert without_times(found) == without_times(expected)
    undisturbed.close()


def test_a_transaction_that_was_not_committed_is_done_again(cut: tuple[Ledger, CuttingProxy]) -> None:
    ledger, _ = cut
    calls = []

    def work(connection: Connection) -> int:
        calls.append(1)
        connection.execute(insert(trainings).values(
            dataset="/d", recipe={}, init_weights="none", options={}, state="queued", epochs=1, history=[],
            created_at=func.now(),
        ))  # fmt: skip
        if len(calls) == 1:
            connection.connection.driver_connection.close()  # type: ignore[union-attr]
        return int(connection.execute(select(func.count()).select_from(trainings)).scalar_one())

    assert ledger.write(work) == 1
    assert len(calls) == 2


def without_times(value: Any) -> str:
    return re.sub(r"datetime\.datetime\([^)]*\)(, tzinfo=[^)]*\))?", "T", repr(value))
