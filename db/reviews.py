"""What readers say of a run's results: one review of each image by each reader, the last one counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from db.dialect import insert_of, now
from db.results import FINDING_FROM, probability_of
from db.schema import images, results, reviews

AGREE, DISAGREE, UNSURE = "agree", "disagree", "unsure"
VERDICTS = (AGREE, DISAGREE, UNSURE)
LONGEST_NOTE = 4000


@dataclass(frozen=True)
class Review:
    """`predicted` is the model's class; `label` what the reader says the image shows, None: not said.
    `sha256`: of the file as it was explained, None where it could not be read."""

    image_id: int
    path: str
    reader: str
    verdict: str
    class_name: str | None
    note: str | None
    predicted: str | None
    created_at: datetime
    updated_at: datetime
    sha256: str | None = None

    @property
    def label(self) -> str | None:
        if self.verdict == UNSURE:
            return None
        return self.class_name or (self.predicted if self.verdict == AGREE else None)


def save_review(
    connection: Connection,
    run_id: int,
    image_id: int,
    reader: str,
    verdict: str,
    class_name: str | None,
    note: str | None,
) -> None:
    """Record what `reader` says of an image; replaces what the same reader said before.

    Raises ValueError for a verdict or class that contradicts the prediction, and an image that has none.
    """
    predicted = connection.execute(
        select(results.c["class"]).where(
            results.c.image_id == image_id, results.c.run_id == run_id, results.c.status == "done"
        )
    ).first()
    if predicted is None:
        raise ValueError(f"image {image_id} has no prediction in run {run_id}")
    if verdict not in VERDICTS:
        raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}")
    if verdict == AGREE and class_name not in (None, predicted[0]):
        raise ValueError(f"to agree with {predicted[0]} and say {class_name} contradict each other")
    if verdict == DISAGREE and class_name == predicted[0]:
        raise ValueError(f"to disagree with {predicted[0]} and say {class_name} contradict each other")
    if note is not None and len(note) > LONGEST_NOTE:
        raise ValueError(f"a note has at most {LONGEST_NOTE:,} characters")
    changed: dict[str, Any] = {"verdict": verdict, "class": class_name, "note": note, "updated_at": now()}
    insert = insert_of(connection.dialect.name)
    statement = insert(reviews).values(
        {"image_id": image_id, "reader": reader, "run_id": run_id, "created_at": now()} | changed
    )
    connection.execute(statement.on_conflict_do_update(index_elements=["image_id", "reader"], set_=changed))


def remove_review(connection: Connection, run_id: int, image_id: int, reader: str) -> None:
    """Take back what `reader` said of an image."""
    connection.execute(
        delete(reviews).where(
            reviews.c.image_id == image_id, reviews.c.reader == reader, reviews.c.run_id == run_id
        )
    )


def read_reviews(connection: Connection, run_id: int, reader: str | None = None) -> Iterator[Review]:
    """The reviews of a run, by image and reader; of one reader if named."""
    statement = (
        select(reviews, images.c.path, results.c["class"].label("predicted"), results.c.sha256)
        .join(images, images.c.id == reviews.c.image_id)
        .outerjoin(results, results.c.image_id == reviews.c.image_id)
        .where(reviews.c.run_id == run_id)
        .order_by(reviews.c.image_id, reviews.c.reader)
    )
    if reader is not None:
        statement = statement.where(reviews.c.reader == reader)
    for row in connection.execution_options(yield_per=1000).execute(statement):
        found = row._mapping
        yield Review(
            found["image_id"], found["path"], found["reader"], found["verdict"], found["class"],
            found["note"], found["predicted"], found["created_at"], found["updated_at"], found["sha256"],
        )  # fmt: skip


def reviewed_with(connection: Connection, run_id: int, finding: str) -> set[int]:
    """Those reviewed images of a run in which the model sees `finding`, whatever else it sees in them."""
    statement = (
        select(results.c.image_id)
        .join(reviews, reviews.c.image_id == results.c.image_id)
        .where(reviews.c.run_id == run_id, probability_of(finding) >= FINDING_FROM)
    )
    return set(connection.execute(statement).scalars())


def own_reviews(connection: Connection, reader: str, image_ids: list[int]) -> dict[int, dict[str, Any]]:
    """What `reader`, and nobody else, said of these images."""
    statement = select(
        reviews.c.image_id, reviews.c.verdict, reviews.c["class"], reviews.c.note, reviews.c.updated_at
    ).where(reviews.c.reader == reader, reviews.c.image_id.in_(image_ids))
    return {
        row.image_id: {
            "verdict": row.verdict,
            "class": row._mapping["class"],
            "note": row.note,
            "when": row.updated_at.isoformat(timespec="seconds"),
        }
        for row in connection.execute(statement)
    }
