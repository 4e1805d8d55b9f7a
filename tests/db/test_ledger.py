"""Opening the ledger: what is refused and in which words, and what is waited for."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from db import ledger as ledger_module
from db.errors import DatabaseUnavailable
from db.ledger import Ledger
from db.migrate import migrate
from tests.support.servers import Postgres, free_port

LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""


def note(ledger: Ledger) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE IF NOT EXISTS notes (number INTEGER)"))
        connection.execute(text("INSERT INTO notes VALUES (1)"))

    ledger.write(work)


def notes(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM notes")).scalar_one())


@contextmanager
def locked(file: Path, seconds: float) -> Iterator[None]:
    """Another process holds the database for so long."""
    command = [sys.executable, "-c", LOCK, str(file), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.kill()


@contextmanager
def coming_back(server: Postgres, seconds: float) -> Iterator[None]:
    """A server that was stopped is started again after a while."""
    timer = threading.Timer(seconds, server.start)
    timer.start()
    yield
    timer.join()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("no url", "cannot be understood; write sqlite:///FILE or postgresql"),
        ("postgresql://user:hidden@host:port/name", "cannot be understood"),
        ("mysql://user:hidden@host/name", "lives in SQLite or Postgres, not in 'mysql'"),
        ("sqlite://", "in memory is seen by one process alone; write sqlite:///FILE"),
        ("sqlite:////proc/none/ledger.sqlite3", "no folder for the ledger /proc/none/ledger.sqlite3"),
    ],
)
def test_url_that_cannot_be_a_ledger_is_refused(url: str, words: str) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        Ledger(url)
    assert words in str(refusal.value)
    assert "hidden" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://doctor:hidden@127.0.0.1:{port}/xrays",
        "postgresql+psycopg://doctor:hidden@127.0.0.1:{port}/xrays",
        "postgresql://doctor@127.0.0.1:{port}/xrays?password=hidden",
        "postgresql://doctor:hidden@127.0.0.1:{port}/xrays?nonsense=1",
    ],
)
def test_password_is_shown_nowhere(url: str) -> None:
    ledger = Ledger(url.format(port=free_port()), retry_timeout=0.1)
    assert "hidden" not in str(ledger)
    with pytest.raises(DatabaseUnavailable) as reading:
        migrate(ledger)
    with pytest.raises(DatabaseUnavailable) as writing:
        note(ledger)
    for refusal in (reading, writing):
        assert "hidden" not in str(refusal.value)
        assert "doctor" in str(refusal.value)
        assert str(refusal.value).endswith("check XRAYCAM_DATABASE_URL")
        assert "\n" not in str(refusal.value)


def test_wrong_password_is_told_at_once(postgres: Postgres) -> None:
    url = postgres.new_database().replace(postgres.password, "wrong-one")
    ledger = Ledger(url, retry_timeout=3600)
    with pytest.raises(DatabaseUnavailable, match="password authentication failed") as refusal:
        note(ledger)
    assert "wrong-one" not in str(refusal.value)


def test_missing_database_is_told_at_once(postgres: Postgres) -> None:
    url = postgres.new_database().rpartition("/")[0] + "/nowhere"
    with pytest.raises(DatabaseUnavailable, match='database "nowhere" does not exist'):
        note(Ledger(url, retry_timeout=3600))


def test_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    with pytest.raises(DatabaseUnavailable, match="cannot be used: file is not a database"):
        migrate(Ledger(f"sqlite:///{tmp_path / 'notes.txt'}"))


def test_read_only_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    migrate(Ledger(f"sqlite:///{file}"))
    ledger = Ledger(f"sqlite:///file:{file}?mode=ro&uri=true")
    with pytest.raises(DatabaseUnavailable, match="cannot be used: attempt to write a readonly database"):
        note(ledger)


def test_wrong_sql_is_a_fault_of_ours_and_shows_no_values(ledger: Ledger) -> None:
    statement = text("INSERT INTO nowhere VALUES (:path)")
    with pytest.raises(DBAPIError) as fault:
        ledger.write(lambda connection: connection.execute(statement, {"path": "patient.png"}))
    assert "nowhere" in str(fault.value)
    assert "patient.png" not in str(fault.value)


def test_failed_transaction_leaves_nothing(ledger: Ledger) -> None:
    note(ledger)

    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO notes VALUES (2)"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.write(work)
    assert notes(ledger) == 1


def test_reader_sees_one_state(ledger: Ledger) -> None:
    note(ledger)
    with ledger.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM notes")).scalar_one()
        note(ledger)
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar_one() == before
    assert notes(ledger) == before + 1


def test_write_waits_for_postgres_to_come_back(postgres: Postgres) -> None:
    ledger = Ledger(postgres.new_database())
    note(ledger)
    postgres.stop()
    with coming_back(postgres, 2.0):
        note(ledger)
    assert notes(ledger) == 2


def test_read_waits_for_postgres_to_come_back(postgres: Postgres) -> None:
    ledger = Ledger(postgres.new_database())
    note(ledger)
    postgres.stop()
    with coming_back(postgres, 2.0):
        assert notes(ledger) == 1


def test_transaction_broken_in_its_middle_is_done_again_whole(postgres: Postgres) -> None:
    ledger = Ledger(postgres.new_database())
    note(ledger)
    breaks: list[Callable[[], None]] = [postgres.stop]
    tries = 0

    def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        connection.execute(text("INSERT INTO notes VALUES (2)"))
        if breaks:
            breaks.pop()()
            threading.Timer(1.0, postgres.start).start()
        connection.execute(text("INSERT INTO notes VALUES (3)"))

    ledger.write(work)
    assert tries > 1
    assert notes(ledger) == 3


def test_query_cut_off_twice_is_asked_again(postgres: Postgres) -> None:
    ledger = Ledger(postgres.new_database())
    note(ledger)
    tries = 0

    def look(connection: Connection) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return int(connection.execute(text("SELECT count(*) FROM notes")).scalar_one())

    assert ledger.query(look) == 1
    assert tries == 3


def test_patience_with_postgres_ends(postgres: Postgres) -> None:
    ledger = Ledger(postgres.new_database(), retry_timeout=0.5)
    note(ledger)
    postgres.stop()
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        note(ledger)


def test_vanished_client_is_noticed_by_postgres(postgres: Postgres) -> None:
    with Ledger(postgres.new_database()).read() as connection:
        assert connection.execute(text("SHOW tcp_keepalives_idle")).scalar() == "20"
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "20s"


@pytest.mark.parametrize("busy_seconds", [30.0, 0.05])
def test_write_waits_for_a_locked_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy_seconds: float
) -> None:
    monkeypatch.setattr(ledger_module, "SQLITE_BUSY_TIMEOUT", busy_seconds)
    file = tmp_path / "ledger.sqlite3"
    ledger = Ledger(f"sqlite:///{file}")
    note(ledger)
    with locked(file, 2.0):
        assert notes(ledger) == 1
        note(ledger)
    assert notes(ledger) == 2


def test_transaction_that_reads_first_keeps_other_writers_out_of_sqlite(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    note(ledger)
    other = threading.Thread(target=note, args=(ledger,))
    tries = 0

    def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        connection.execute(text("SELECT count(*) FROM notes")).scalar_one()
        if tries == 1:
            other.start()
            other.join(0.5)
        connection.execute(text("INSERT INTO notes VALUES (2)"))

    ledger.write(work)
    other.join(30)
    assert tries == 1
    assert notes(ledger) == 3


def test_ledger_is_opened_while_sqlite_is_locked(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    note(Ledger(f"sqlite:///{file}"))
    with locked(file, 1.0):
        ledger = Ledger(f"sqlite:///{file}")
        assert notes(ledger) == 1
        note(ledger)
    assert notes(ledger) == 2


def test_patience_with_a_locked_sqlite_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "SQLITE_BUSY_TIMEOUT", 0.05)
    file = tmp_path / "ledger.sqlite3"
    ledger = Ledger(f"sqlite:///{file}", retry_timeout=0.3)
    note(ledger)
    with locked(file, 60.0), pytest.raises(DatabaseUnavailable, match="does not answer: database is locked"):
        note(ledger)


def test_sqlite_keeps_readers_and_writers_apart(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}").read() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "foreign_keys")
        ]
    assert pragmas == ["wal", 1]
