"""Time by the database's clock: the same on both databases, to the millisecond, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from sqlalchemy import literal, select

from db.dialect import Timestamp, now
from db.ledger import Ledger
from db.models import add_model, get_model
from db.schema import models


def test_now_is_the_time_in_utc(ledger: Ledger) -> None:
    with ledger.read() as connection:
        moment, later = connection.execute(select(now(), now(90.5))).one()
    assert abs(moment - datetime.now(UTC)) < timedelta(seconds=60)
    assert abs((later - moment).total_seconds() - 90.5) < 5


def test_moments_are_stored_in_utc_whatever_their_zone(ledger: Ledger) -> None:
    ledger.write(add_model, version="a", digest="", classes=(), source="", metrics={})
    moment = datetime(2025, 3, 1, 0, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
    ledger.write(lambda connection: connection.execute(models.update().values(created_at=moment)))
    assert ledger.query(get_model, "a").created_at == moment
    with ledger.read() as connection:
        earlier = literal(moment - timedelta(milliseconds=1), Timestamp())
        found = connection.execute(select(models.c.version).where(models.c.created_at > earlier)).scalars()
        assert list(found) == ["a"]
        later = literal(moment + timedelta(milliseconds=1), Timestamp())
        assert not connection.execute(select(models.c.version).where(models.c.created_at > later)).all()
