"""The models that exist, and which one is current: the one promoted last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from db.dialect import insert_of, now
from db.errors import ModelNotFound
from db.model_names import refuse_name_of_another
from db.schema import deleted_models, models


@dataclass(frozen=True)
class Model:
    version: str
    digest: str
    classes: tuple[str, ...]
    source: str
    metrics: dict[str, Any]
    created_at: datetime
    promoted_at: datetime | None


def add_model(
    connection: Connection,
    *,
    version: str,
    digest: str,
    classes: tuple[str, ...],
    source: str,
    metrics: dict[str, Any],
    promote: bool = False,
    created_at: datetime | None = None,
) -> None:
    """Register a version whose folder is in the store; a version that is known already is left as it is.

    `created_at`: when the model was made; None: now. Raises ModelNameTaken.
    """
    refuse_name_of_another(connection, version, digest)
    insert = insert_of(connection.dialect.name)
    values = {
        "version": version,
        "digest": digest,
        "classes": list(classes),
        "source": source,
        "metrics": metrics,
        "created_at": created_at or now(),
    }
    statement = insert(models).values(values).on_conflict_do_nothing().returning(models.c.version)
    is_new = connection.execute(statement).scalar() is not None
    connection.execute(delete(deleted_models).where(deleted_models.c.version == version))
    if is_new and promote:
        _promote(connection, version)


def current_model(connection: Connection) -> Model | None:
    """The version that unpinned runs use, or None while no model was ever promoted."""
    row = connection.execute(
        select(models)
        .where(models.c.promoted_at.is_not(None))
        .order_by(models.c.promoted_at.desc(), models.c.version.desc())
        .limit(1)
    ).first()
    return None if row is None else _model(row)


def get_model(connection: Connection, version: str) -> Model:
    """The model of this version. Raises ModelNotFound with the versions that exist."""
    row = connection.execute(select(models).where(models.c.version == version)).first()
    if row is not None:
        return _model(row)
    known = ", ".join(model.version for model in list_models(connection)) or "none yet"
    raise ModelNotFound(f"there is no model {version!r}; known: {known}")


def list_models(connection: Connection) -> list[Model]:
    """All versions, newest first."""
    rows = connection.execute(
        select(models).order_by(models.c.created_at.desc(), models.c.version.desc())
    ).all()
    return [_model(row) for row in rows]


def promote_model(connection: Connection, version: str) -> None:
    """Make a version current. Raises ModelNotFound."""
    get_model(connection, version)
    _promote(connection, version)


def _promote(connection: Connection, version: str) -> None:
    # Later than every other, even within the same millisecond or after the clock was set back.
    moment, last = connection.execute(
        select(now(), select(func.max(models.c.promoted_at)).scalar_subquery())
    ).one()
    if last is not None:
        moment = max(moment, last + timedelta(milliseconds=1))
    connection.execute(update(models).where(models.c.version == version).values(promoted_at=moment))


def _model(row: Row[Any]) -> Model:
    return Model(
        version=row.version,
        digest=row.digest,
        classes=tuple(row.classes),
        source=row.source,
        metrics=row.metrics,
        created_at=row.created_at,
        promoted_at=row.promoted_at,
    )


def last_two_promoted(connection: Connection) -> tuple[str, str]:
    """The current version, and that which was so before.

    Raises ModelNotFound when no other version was ever promoted.
    """
    promoted = list(
        connection.execute(
            select(models.c.version)
            .where(models.c.promoted_at.is_not(None))
            .order_by(models.c.promoted_at.desc(), models.c.version.desc())
            .limit(2)
        ).scalars()
    )
    if len(promoted) < 2:
        raise ModelNotFound("no other model was current before; 'xraycam models promote VERSION' chooses one")
    return promoted[0], promoted[1]


def rollback_model(connection: Connection) -> tuple[str, str]:
    """Make the version current that was so before; returns what was and what is now. Raises ModelNotFound as
    `last_two_promoted` does."""
    current, before = last_two_promoted(connection)
    # By name: done twice, it must not go back two versions.
    connection.execute(update(models).where(models.c.version == current).values(promoted_at=None))
    return current, before
