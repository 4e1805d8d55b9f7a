"""DICOM objects made from results: which were sent where, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, case, func, select

from db.dialect import insert_of, now
from db.schema import exports, images, results

SENT, REFUSED, RETRY = "sent", "refused", "retry"


def select_exportable(
    connection: Connection, run_id: int, after: int = 0, limit: int = 200
) -> list[dict[str, Any]]:
    """The next done images of a run by their number, with what DICOM objects are made of.

    Rows have the columns of `results`, and `path` as in `images`.
    """
    statement = (
        select(images.c.path, *results.c)
        .join(images, images.c.id == results.c.image_id)
        .where(results.c.run_id == run_id, results.c.status == "done", results.c.image_id > after)
        .order_by(results.c.image_id)
        .limit(limit)
    )
    return [dict(row._mapping) for row in connection.execute(statement)]


def upsert_exports(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Record the fate of objects; each row has `run_id`, `image_id`, `kind`, `target`, `instance_uid`,
    `series_uid`, `source_sha256`, `model_version`, `state` and `answer`. What was sent once stays `sent`."""
    insert = insert_of(connection.dialect.name)
    for row in rows:
        statement = insert(exports).values(**row, attempts=1, recorded_at=now())
        new = statement.excluded
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["target", "instance_uid"],
                set_={
                    "state": new.state,
                    "answer": new.answer,
                    "attempts": exports.c.attempts + 1,
                    "recorded_at": new.recorded_at,
                },
                where=exports.c.state != SENT,
            )
        )


def select_sent(connection: Connection, target: str, uids: Sequence[str]) -> set[str]:
    """Which of these objects `target` has confirmed already."""
    statement = select(exports.c.instance_uid).where(
        exports.c.target == target, exports.c.instance_uid.in_(uids), exports.c.state == SENT
    )
    return set(connection.execute(statement).scalars())


def select_predecessor(
    connection: Connection, source_sha256: str, model_version: str, instance_uid: str
) -> tuple[str, str] | None:
    """Series and instance UID of the report that one of `instance_uid` revises: the last one sent before it,
    anywhere, about the same image by the same model. None if it revises none.

    A report that was recorded before has the predecessor that it had then.
    """
    about = (exports.c.source_sha256 == source_sha256) & (exports.c.model_version == model_version)
    own = select(func.min(exports.c.id)).where(exports.c.instance_uid == instance_uid).scalar_subquery()
    statement = (
        select(exports.c.series_uid, exports.c.instance_uid)
        .where(
            about,
            exports.c.kind == "report",
            exports.c.state == SENT,
            exports.c.instance_uid != instance_uid,
            (exports.c.id < own) | own.is_(None),
        )
        .order_by(exports.c.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else (row.series_uid, row.instance_uid)


def select_later_reports(
    connection: Connection, source_sha256: str, model_version: str, instance_uid: str, target: str
) -> list[tuple[str, str]]:
    """Series and instance UIDs of the reports that `target` has about the same image by the same model and
    that were recorded first, anywhere, after the one of `instance_uid`, in that order. Empty if that one was
    not recorded.
    """
    made_first = func.min(exports.c.id)
    is_there = (exports.c.target == target) & (exports.c.state == SENT)
    statement = (
        select(exports.c.series_uid, exports.c.instance_uid, func.max(case((is_there, 1), else_=0)))
        .where(
            exports.c.source_sha256 == source_sha256,
            exports.c.model_version == model_version,
            exports.c.kind == "report",
        )
        .group_by(exports.c.series_uid, exports.c.instance_uid)
        .order_by(made_first)
    )
    later: list[tuple[str, str]] | None = None
    for series_uid, uid, sent in connection.execute(statement):
        if uid == instance_uid:
            later = []
        elif later is not None and sent:
            later.append((series_uid, uid))
    return later or []


def count_exports(connection: Connection, run_id: int, target: str) -> dict[str, int]:
    """How many objects of a run have which state at `target`."""
    statement = (
        select(exports.c.state, func.count())
        .where(exports.c.run_id == run_id, exports.c.target == target)
        .group_by(exports.c.state)
    )
    return {str(state): int(count) for state, count in connection.execute(statement)}
