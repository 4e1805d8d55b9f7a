"""What readers say of a run's results: one review of each image by each reader, the last one counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from db.browse import result_mark
from db.dialect import a_key, insert_of, now
from db.results import FINDING_FROM, probability_of
from db.schema import images, results, reviews

AGREE, DISAGREE, UNSURE = "agree", "disagree", "unsure"
VERDICTS = (AGREE, DISAGREE, UNSURE)
LONGEST_NOTE = 4000


class ExplainedAgain(ValueError):
    """Raised for a review of a result that is no more."""


@dataclass(frozen=True)
class Review:
    """`predicted` is the model's class; `label` what the reader says the image shows, None: not said.
    `sha256`: of the file as it was explained, None where it could not be read. `is_outdated`: the reader
    saw another file than that; there is no label then. `predicted_then`: what the reader saw."""

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
    is_outdated: bool = False
    predicted_then: str | None = None

    @property
    def label(self) -> str | None:
        return None if self.verdict == UNSURE or self.is_outdated else self.class_name

    @property
    def denied(self) -> str | None:
        """The class that the reader says it is not, naming no other."""
        is_named = self.class_name is not None
        return None if self.verdict != DISAGREE or is_named or self.is_outdated else self.predicted_then


def is_of_result() -> ColumnElement[bool]:
    """Whether a review is of the result there is: of the same content, with the same class predicted."""
    return and_(
        reviews.c.sha256.is_not_distinct_from(results.c.sha256),
        reviews.c.predicted.is_not_distinct_from(results.c["class"]),
    )


def save_review(
    connection: Connection,
    run_id: int,
    image_id: int,
    reader: str,
    verdict: str,
    class_name: str | None,
    note: str | None,
    seen: str | None = None,
) -> None:
    """Record what `reader` says of an image; replaces what the same reader said before. To agree names the
    class predicted, which is kept: what was agreed with does not change with the result.

    `seen`: mark of the result that the reader saw. Raises ExplainedAgain where that is no more, ValueError
    for a verdict or class that contradicts the prediction, and an image that has none.
    """
    found = connection.execute(
        select(results.c["class"], results.c.sha256, results.c.finished_at).where(
            results.c.image_id == a_key(image_id), results.c.run_id == run_id, results.c.status == "done"
        )
    ).first()
    if seen is not None and (found is None or result_mark(dict(found._mapping)) != seen):
        raise ExplainedAgain("the image was explained again since this page was loaded; load it again")
    if found is None:
        raise ValueError(f"image {image_id} has no prediction in run {run_id}")
    predicted, sha256 = found[0], found[1]
    if verdict not in VERDICTS:
        raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}")
    if verdict == AGREE and class_name not in (None, predicted):
        raise ValueError(f"to agree with {predicted} and say {class_name} contradict each other")
    if verdict == DISAGREE and class_name == predicted:
        raise ValueError(f"to disagree with {predicted} and say {class_name} contradict each other")
    if note is not None and len(note) > LONGEST_NOTE:
        raise ValueError(f"a note has at most {LONGEST_NOTE:,} characters")
    changed: dict[str, Any] = {
        "verdict": verdict, "class": predicted if verdict == AGREE else class_name, "note": note,
        "predicted": predicted, "sha256": sha256, "updated_at": now(),
    }  # fmt: skip
    insert = insert_of(connection.dialect.name)
    statement = insert(reviews).values(
        {"image_id": image_id, "reader": reader, "run_id": run_id, "created_at": now()} | changed
    )
    connection.execute(statement.on_conflict_do_update(index_elements=["image_id", "reader"], set_=changed))


def remove_review(connection: Connection, run_id: int, image_id: int, reader: str) -> None:
    """Take back what `reader` said of an image."""
    connection.execute(
        delete(reviews).where(
            reviews.c.image_id == a_key(image_id), reviews.c.reader == reader, reviews.c.run_id == run_id
        )
    )


def read_reviews(connection: Connection, run_id: int, reader: str | None = None) -> Iterator[Review]:
    """The reviews of a run, by image and reader; of one reader if named."""
    statement = (
        select(
            reviews,
            images.c.path,
            results.c["class"].label("class_now"),
            results.c.sha256.label("sha256_now"),
            results.c.status,
        )
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
            found["note"], found["class_now"], found["created_at"], found["updated_at"], found["sha256_now"],
            found["status"] != "done" or found["sha256"] != found["sha256_now"], found["predicted"],
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
    """What `reader`, and nobody else, said of these images. `outdated`: why it is not of the result there is,
    as a part of a sentence; None: it is."""
    statement = (
        select(
            reviews,
            (reviews.c.sha256.is_not_distinct_from(results.c.sha256)).label("is_of_file"),
            is_of_result().label("is_of_result"),
        )
        .join(results, results.c.image_id == reviews.c.image_id)
        .where(reviews.c.reader == reader, reviews.c.image_id.in_(image_ids))
    )
    found = {}
    for row in connection.execute(statement):
        known = row._mapping
        outdated = None if known["is_of_file"] else "the file has changed since"
        if known["is_of_file"] and not known["is_of_result"]:
            outdated = f"the model said {known['predicted']} then"
        found[known["image_id"]] = {
            "verdict": known["verdict"],
            "class": known["class"],
            "note": known["note"],
            "when": known["updated_at"].isoformat(timespec="seconds"),
            "outdated": outdated,
        }
    return found
