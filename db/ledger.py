"""Opening the ledger: one class for SQLite and Postgres, with transactions that are safe on both."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from db.errors import LedgerUnreachable

T = TypeVar("T")

BUSY_SECONDS = 30.0


class Ledger:
    """A database that holds runs, images, results, models and workers.

    `patience`: seconds for which a transaction is tried again while the database is away or locked.
    """

    def __init__(self, url: str, patience: float = 60.0) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError:
            raise LedgerUnreachable(
                "the database URL cannot be understood; write sqlite:///FILE or "
                "postgresql+psycopg://USER:PASSWORD@HOST/NAME"
            ) from None
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if not self.is_sqlite and self.url.get_backend_name() != "postgresql":
            raise LedgerUnreachable(
                f"the ledger lives in SQLite or Postgres, not in {self.url.get_backend_name()!r}; "
                "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
            )
        self.patience = patience
        self.engine = self._engine()

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for looking things up; sees one consistent state."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except OperationalError as error:
            raise self._unreachable(error) from error

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction, again from its start if the database was away or locked.

        Raises LedgerUnreachable when `patience` is used up.
        """
        end = time.monotonic() + self.patience
        pause = 0.05
        while True:
            try:
                with self.engine.connect().execution_options(write=True) as connection, connection.begin():
                    return work(connection)
            except DBAPIError as error:
                if not _is_passing(error):
                    raise
                if time.monotonic() + pause > end:
                    raise self._unreachable(error) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
            pause = min(pause * 2, 2.0)

    def close(self) -> None:
        self.engine.dispose()

    def _engine(self) -> Engine:
        if self.is_sqlite:
            if self.url.database and self.url.database != ":memory:":
                try:
                    Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise LedgerUnreachable(
                        f"no folder for the ledger {self.url.database}: {error.strerror}"
                    ) from error
            engine = create_engine(self.url, connect_args={"timeout": BUSY_SECONDS})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        try:
            return create_engine(self.url, pool_pre_ping=True, connect_args={"connect_timeout": 5})
        except (NoSuchModuleError, ImportError) as error:
            raise LedgerUnreachable(f"no driver for {self}: {error}") from error

    def _unreachable(self, error: DBAPIError) -> LedgerUnreachable:
        cause = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
        return LedgerUnreachable(f"the database {self} does not answer: {cause}; check XRAYCAM_DATABASE_URL")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` says which kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A plain BEGIN that reads first and writes later fails under load whatever the busy timeout.
    immediate = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _is_passing(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed a moment later."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        # connection failures, admin shutdown, starting up, serialisation, deadlock, lock timeout
        return str(state).startswith("08") or state in ("57P01", "57P02", "57P03", "40001", "40P01", "55P03")
    text = str(error.orig).lower()
    if isinstance(error, OperationalError):
        passing = ("locked", "busy", "connection", "disk i/o error", "disk is full")
        return any(word in text for word in passing)
    return False
