"""Results of a run by study or patient, as far as DICOM files tell them apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, case, func, select

from db.results import probability_of
from db.runs import CANCELLED, get_run, progress
from db.schema import results

GROUP_COLUMNS = ("images", "done", "failed", "class", "highest_probability", "highest_score", "decision",
                 "burned_in", "status")  # fmt: skip


def read_groups(
    connection: Connection, run_id: int, by: str, class_name: str | None
) -> Iterator[dict[str, Any]]:
    """One row for each value of `by`, `patient` or `study`, the one with the highest probability first, those
    without any last.

    `highest_probability` is of `class_name`, or without it of the predicted class of each image; `status` is
    `failed` where one image failed; `decision` is `refer` where one image is to be referred. Images without
    that hash, other formats and files whose header cannot be read, are one last row, of which `by` is None.
    Images without a result are another, with `status` as each of them has it: nobody knows whose they are.
    """
    key = results.c[by]
    probability = results.c.probability if class_name is None else probability_of(class_name)
    highest = func.max(probability)
    is_failed = results.c.status == "failed"
    statement = (
        select(
            key.label(by),
            func.count().label("images"),
            func.sum(case((is_failed, 0), else_=1)).label("done"),
            func.sum(case((is_failed, 1), else_=0)).label("failed"),
            highest.label("highest_probability"),
            func.max(results.c.score).label("highest_score"),
            func.max(case((results.c.decision == "refer", 2), (results.c.decision == "not-decided", 1),
                          (results.c.decision == "do-not-refer", 0))).label("decision"),
            func.sum(case((results.c.header["burned_in_annotation"].as_string() == "yes", 1), else_=0)).label(
                "burned_in"
            ),
        )
        .where(results.c.run_id == run_id)
        .group_by(key)
        .order_by(key.is_(None), highest.is_(None), highest.desc(), key)
    )  # fmt: skip
    decisions = {None: None, 0: "do-not-refer", 1: "not-decided", 2: "refer"}
    for row in connection.execute(statement):
        found = dict(row._mapping)
        yield {
            by: found[by],
            "images": found["images"],
            "done": found["done"],
            "failed": found["failed"],
            "class": class_name,
            "highest_probability": found["highest_probability"],
            "highest_score": found["highest_score"],
            "decision": decisions[found["decision"]],
            "burned_in": found["burned_in"],
            "status": "failed" if found["failed"] else "done",
        }
    if pending := progress(connection, run_id).pending:
        status = "cancelled" if get_run(connection, run_id).state == CANCELLED else "pending"
        nothing = dict.fromkeys((by, *GROUP_COLUMNS))
        counts = {"images": pending, "done": 0, "failed": 0, "burned_in": 0}
        yield nothing | counts | {"class": class_name, "status": status}


def hash_keys(connection: Connection, run_id: int) -> list[str]:
    """Fingerprints of the keys that a run's hashes were made with, by name: of more than one, patients are
    counted more than once."""
    key = results.c.header["hash_key"].as_string()
    statement = select(key).where(results.c.run_id == run_id, results.c.patient.is_not(None)).distinct()
    return sorted(str(found) for found in connection.execute(statement).scalars() if found is not None)


def count_burned_in(connection: Connection, run_id: int) -> int:
    """Explained images of a run whose DICOM header says that text is burned into the picture."""
    word = results.c.header["burned_in_annotation"].as_string()
    statement = select(func.count()).where(
        results.c.run_id == run_id, results.c.status == "done", word == "yes"
    )
    return int(connection.execute(statement).scalar_one())
