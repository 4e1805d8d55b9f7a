"""Making the tables: as the schema says, once, by whoever comes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import db
from db.errors import SchemaTooNew
from db.ledger import Ledger
from db.migrate import HEAD, migrate
from db.schema import metadata, predictions
from tests.support.concurrency import at_once


def migrate_database(url: str) -> bool:
    ledger = Ledger(url)
    try:
        return migrate(ledger)
    finally:
        ledger.close()


def test_migrations_make_exactly_the_tables_of_the_schema(ledger: Ledger) -> None:
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_view_has_the_columns_that_the_schema_tells(ledger: Ledger) -> None:
    with ledger.read() as connection:
        made = [column["name"] for column in inspect(connection).get_columns("predictions")]
    assert made == [column.name for column in predictions.columns]


def test_head_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_second_migration_finds_nothing_to_do(empty_url: str) -> None:
    assert migrate_database(empty_url) is True
    assert migrate_database(empty_url) is False


def test_six_processes_that_migrate_at_once_migrate_once(empty_url: str) -> None:
    assert sorted(at_once(migrate_database, [(empty_url,)] * 6)) == [False] * 5 + [True]
    with Ledger(empty_url).read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [HEAD]


def test_ledger_of_a_newer_release_is_refused(ledger: Ledger) -> None:
    ledger.write(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    )
    with pytest.raises(SchemaTooNew, match=f"has schema 9999, this release knows {HEAD}; update xraycam"):
        migrate(ledger)
