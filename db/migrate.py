"""Bringing the ledger to this release's schema: once, by whoever comes first."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from db.errors import DatabaseUnavailable, SchemaTooNew
from db.ledger import Ledger

HEAD = "0001"
_ADVISORY_LOCK = 0x78726179  # "xray"


def migrate(ledger: Ledger) -> bool:
    """Make or update the tables if needed; true when something was done.

    Safe to call from many processes at once: the work is done in one transaction, under an advisory
    lock on Postgres and under the write lock on SQLite.
    """
    with ledger.read() as connection:
        if _revision(connection) == HEAD:
            return False
    return ledger.write(lambda connection: _upgrade(ledger, connection))


def _upgrade(ledger: Ledger, connection: Connection) -> bool:
    if not ledger.is_sqlite:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    if _revision(connection) == HEAD:
        return False
    # Alembic takes a third of a second to import: only the process that migrates pays for it.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        found = _revision(connection)
        if found is not None and found > HEAD:
            raise SchemaTooNew(
                f"the ledger {ledger} has schema {found}, this release knows {HEAD}; update xraycam"
            ) from error
        raise DatabaseUnavailable(f"the ledger {ledger} cannot be migrated: {error}") from error
    return True


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
