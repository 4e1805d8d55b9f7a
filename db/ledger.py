"""Opening the ledger: one class for SQLite and Postgres, with transactions that are safe on both."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from db.errors import DatabaseUnavailable

# Primary result codes: busy, locked, input/output error, disk full.
_SQLITE_TRANSIENT = (5, 6, 10, 13)
# Corrupt, not a database.
_SQLITE_USER_ERRORS = (11, 26)
# Connection lost, no resources left (disk, memory, connections).
_TRANSIENT_CLASSES = ("08", "53")
# Shut down, crashed, starting up, serialisation failure, deadlock, lock not to be had in time.
_TRANSIENT_STATES = ("57P01", "57P02", "57P03", "40001", "40P01", "55P03")
# Not allowed, read-only, no such database, wrong password.
_USER_ERROR_STATES = ("42501", "25006", "3D000", "28000", "28P01")
# Postgres refuses a connection without a state; these texts are the ones no waiting helps.
_NON_RETRYABLE = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")


def is_transient(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed a moment later."""
    if error.connection_invalidated:
        return True
    code = _sqlite_code(error)
    if code is not None:
        return code in _SQLITE_TRANSIENT
    state = _state(error)
    if state is not None:
        return state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT_STATES
    text = str(error.orig).lower()
    return isinstance(error, OperationalError) and not any(word in text for word in _NON_RETRYABLE)


def is_user_error(error: DBAPIError) -> bool:
    """Whether the user can do something about it; if not, it is a fault of ours."""
    code = _sqlite_code(error)
    if code is not None:
        # SQLITE_ERROR stands for wrong SQL.
        return code in _SQLITE_USER_ERRORS or (isinstance(error, OperationalError) and code != 1)
    if is_transient(error) or isinstance(error, OperationalError) or _state(error) in _USER_ERROR_STATES:
        return True
    return "invalid connection option" in str(error.orig)


def _sqlite_code(error: DBAPIError) -> int | None:
    if not isinstance(error.orig, sqlite3.Error):
        return None
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


def _state(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return None if state is None else str(state)


T = TypeVar("T")
P = ParamSpec("P")

SQLITE_BUSY_TIMEOUT = 30.0

# A machine that vanished is noticed after 20 + 4 x 5 s, by the server as by us: the locks that its
# transactions held would bar others for hours else.
_KEEPALIVES = {"keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4}
_SESSION = {
    "tcp_keepalives_idle": "20s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "4",
    "lock_timeout": "20s",
}
_HOW = "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


# None for a transaction that wrote nothing.
_TRANSACTION = text("SELECT txid_current_if_assigned()")
_STATUS = text("SELECT txid_status(:number)")


class Ledger:
    """A database that holds runs, images, results, models and workers.

    `retry_timeout`: seconds for which it is tried again while the database is away or locked.
    """

    def __init__(self, url: str, retry_timeout: float = 60.0) -> None:
        try:
            self.url = make_url(url)
        except (ArgumentError, ValueError):
            raise DatabaseUnavailable(f"the database URL cannot be understood; {_HOW}") from None
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if not self.is_sqlite and self.url.get_backend_name() != "postgresql":
            raise DatabaseUnavailable(
                f"the ledger lives in SQLite or Postgres, not in {self.url.get_backend_name()!r}; {_HOW}"
            )
        password = self.url.query.get("password")
        if isinstance(password, str):
            # Where str() knows to hide it.
            self.url = self.url.difference_update_query(["password"]).set(password=password)
        self.retry_timeout = retry_timeout
        self.engine = self._sqlite() if self.is_sqlite else self._postgres()

    def __str__(self) -> str:
        # What is in the query may be secret as well: sslpassword.
        shown = self.url if self.is_sqlite else self.url.set(query={})
        return shown.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for looking things up; sees one consistent state.

        Raises DatabaseUnavailable when the database is away for longer than `retry_timeout`, or goes away in
        between.
        """
        try:
            connection = self._retried(self.engine.connect)
        except DBAPIError as error:
            raise self._translate_error(error) from error
        with self._snapshot(connection):
            try:
                yield connection
            except DBAPIError as error:
                raise self._translate_error(error) from error

    def _snapshot(self, connection: Connection) -> Connection:
        """A connection just opened, set to see one consistent state."""
        if self.is_sqlite:
            return connection
        return connection.execution_options(isolation_level="REPEATABLE READ")

    def query(self, look: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`look(connection, *args, **kwargs)` over a connection like that of `read`.

        `look` reads alone: it is done again from its start while the database is away, also where that goes
        away in between. Raises DatabaseUnavailable after `retry_timeout`.
        """

        def attempt() -> T:
            with self._snapshot(self.engine.connect()) as connection:
                return look(connection, *args, **kwargs)

        try:
            return self._retried(attempt)
        except DBAPIError as error:
            raise self._translate_error(error) from error

    def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work(connection, *args, **kwargs)` in one transaction and return its result, exactly once.

        It is tried again from its start while the database is away or locked. If the connection breaks while
        Postgres commits, the reply is lost but not the transaction: its fate is asked for (`txid_status`),
        and `work` is done again only if it was aborted. Raises DatabaseUnavailable after `retry_timeout`; a
        change whose commit was not confirmed by then may be lost or kept.
        """
        end = time.monotonic() + self.retry_timeout
        done: tuple[int, T] | None = None

        def attempt() -> T:
            nonlocal done
            with self.engine.connect().execution_options(write=True) as connection:
                if done is not None and self._is_committed(connection, done[0], end):
                    return done[1]
                done = None
                with connection.begin():
                    result = work(connection, *args, **kwargs)
                    number = None if self.is_sqlite else connection.execute(_TRANSACTION).scalar()
                    done = None if number is None else (int(number), result)
                return result

        try:
            return self._retried(attempt)
        except DBAPIError as error:
            raise self._translate_error(error) from error

    def _retried(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, tried again for `retry_timeout` where it fails by what passes."""
        start = time.monotonic()
        try:
            return attempt()
        except DBAPIError as error:
            if not is_transient(error):
                raise
        # Imported by those who have to wait: it takes longer than most queries.
        from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

        time.sleep(random.uniform(0, 0.05))  # noqa: S311 - no secret
        return Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, DBAPIError) and is_transient(error)),
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_before_delay(self.retry_timeout - (time.monotonic() - start)),
            reraise=True,
        )(attempt)

    def _is_committed(self, connection: Connection, number: int, end: float) -> bool:
        """Whether the transaction of this number was committed; waits while it is in progress.

        Raises DatabaseUnavailable where it is in progress still at `end`, by the monotonic clock: Postgres
        waits for a synchronous standby without a limit.
        """
        while True:
            try:
                status = connection.execute(_STATUS, {"number": number}).scalar()
            except DBAPIError as error:
                if is_transient(error):
                    raise
                status = "aborted"  # a server that took over has not heard of it
            finally:
                connection.rollback()
            if status != "in progress":
                return status == "committed"
            if time.monotonic() > end:
                raise DatabaseUnavailable(
                    f"the database {self} does not complete a commit, and the change may be lost or kept; "
                    "check its disk and its synchronous standby, then try again"
                )
            time.sleep(0.05)

    def close(self) -> None:
        self.engine.dispose()

    def _sqlite(self) -> Engine:
        if not self.url.database or self.url.database == ":memory:":
            raise DatabaseUnavailable("a ledger in memory is seen by one process alone; write sqlite:///FILE")
        try:
            if not self.url.database.startswith("file:"):
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnavailable(
                f"no folder for the ledger {self.url.database}: {error.strerror}; "
                "set XRAYCAM_HOME or XRAYCAM_DATABASE_URL to a place of yours"
            ) from error
        engine = create_engine(self.url, hide_parameters=True, connect_args={"timeout": SQLITE_BUSY_TIMEOUT})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _postgres(self) -> Engine:
        defaults = {"connect_timeout": 5, "tcp_user_timeout": 40_000, "application_name": "xraycam"}
        defaults["client_encoding"] = "utf8"  # whatever PGCLIENTENCODING says
        arguments = {
            name: value for name, value in (defaults | _KEEPALIVES).items() if name not in self.url.query
        }
        try:
            engine = create_engine(self.url, hide_parameters=True, pool_pre_ping=True, connect_args=arguments)
        except (NoSuchModuleError, ImportError) as error:
            raise DatabaseUnavailable(f"no driver for {self}: {error}; {_HOW}") from error
        # Before SQLAlchemy's own first questions, which fail on an answer in bytes.
        event.listen(engine, "connect", self._require_utf8, insert=True)
        event.listen(engine, "connect", _prepare_postgres)
        return engine

    def _require_utf8(self, connection: Any, _record: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise DatabaseUnavailable(
                f"the database {self} stores text as {encoding}, and cannot hold every file name; make one "
                f"that can: createdb -E UTF8 -T template0 NAME"
            )

    def _translate_error(self, error: DBAPIError) -> Exception:
        """The error in the user's words; the error itself if it is a fault of ours."""
        if not is_user_error(error):
            return error
        cause = " ".join(str(error.orig).split())[:300]
        if self.url.password:
            cause = cause.replace(str(self.url.password), "***")
        what = "does not answer" if is_transient(error) else "cannot be used"
        return DatabaseUnavailable(f"the database {self} {what}: {cause}; check XRAYCAM_DATABASE_URL")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` says which kind.
    connection.isolation_level = None
    # SQLite's own knows the letters of English alone: a search for part of a name would miss others.
    connection.create_function("lower", 1, _lower, deterministic=True)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _begin_sqlite(connection: Connection) -> None:
    # A plain BEGIN that reads first and writes later fails under load whatever the busy timeout.
    immediate = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _prepare_postgres(connection: Any, _record: Any) -> None:
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SESSION.items())
    connection.execute(f"SELECT {settings}")
    connection.commit()
