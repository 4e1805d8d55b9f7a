"""What an error of the database means: whether it passes by itself, and whose it is."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError

# Primary result codes: busy, locked, input/output error, disk full.
_SQLITE_PASSING = (5, 6, 10, 13)
# Corrupt, not a database.
_SQLITE_USERS = (11, 26)
# Connection lost, no resources left (disk, memory, connections).
_PASSING_CLASSES = ("08", "53")
# Shut down, crashed, starting up, serialisation failure, deadlock, lock not to be had in time.
_PASSING_STATES = ("57P01", "57P02", "57P03", "40001", "40P01", "55P03")
# Not allowed, read-only, no such database, wrong password.
_USERS_STATES = ("42501", "25006", "3D000", "28000", "28P01")
# Postgres refuses a connection without a state; these texts are the ones no waiting mends.
_HOPELESS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")


def is_passing(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed a moment later."""
    if error.connection_invalidated:
        return True
    code = _sqlite_code(error)
    if code is not None:
        return code in _SQLITE_PASSING
    state = _state(error)
    if state is not None:
        return state.startswith(_PASSING_CLASSES) or state in _PASSING_STATES
    text = str(error.orig).lower()
    return isinstance(error, OperationalError) and not any(word in text for word in _HOPELESS)


def is_users(error: DBAPIError) -> bool:
    """Whether the user can do something about it; if not, it is a fault of ours."""
    code = _sqlite_code(error)
    if code is not None:
        # SQLITE_ERROR stands for wrong SQL.
        return code in _SQLITE_USERS or (isinstance(error, OperationalError) and code != 1)
    if is_passing(error) or isinstance(error, OperationalError) or _state(error) in _USERS_STATES:
        return True
    return "invalid connection option" in str(error.orig)


def _sqlite_code(error: DBAPIError) -> int | None:
    if not isinstance(error.orig, sqlite3.Error):
        return None
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


def _state(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return None if state is None else str(state)
