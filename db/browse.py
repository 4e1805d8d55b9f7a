"""Results of a run for people who look at them: those chosen for a report, one image, and counts of all."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, cast, func, select

from db.dialect import a_key
from db.schema import images, results

# What is shown of a result, beside the image's id and path.
SHOWN = (
    "status", "reason", "error", "sha256", "width", "height", "class", "probability", "probabilities",
    "score", "threshold", "decision", "odd", "target_class", "logit", "layer", "method",
    "cam_border_fraction",
    "cam_corner_fraction", "cam_mask_fraction", "blank", "overlay", "model_version", "header", "finished_at",
)  # fmt: skip
SHOWN_COLUMNS = (images.c.id, images.c.path, *(results.c[name] for name in SHOWN))
BINS = 20
# Without a threshold, the score that says neither yes nor no.
UNDECIDED_SCORE = 50.0
_BATCH = 500


def report_rows(connection: Connection, run_id: int, most: int) -> Iterator[dict[str, Any]]:
    """The results of a run for a report, `most` of them, streamed; each has `id`, `path` and `SHOWN`.

    Failures come first, at most half of them all where there are more results than `most`; then those nearest
    the threshold by their score, or without scores the least probable ones; those without a value last.
    """
    ended = results.c.run_id == run_id
    total = connection.execute(
        select(func.count()).select_from(select(results.c.image_id).where(ended).limit(most + 1).subquery())
    ).scalar_one()
    failed = _shown().where(ended, results.c.status == "failed").order_by(results.c.image_id)
    count = 0
    for row in _stream(connection, failed.limit(most if total <= most else most // 2)):
        count += 1
        yield row
    done = _shown().where(ended, results.c.status == "done")
    if total <= most:
        yield from _stream(connection, done.order_by(results.c.image_id))
    else:
        yield from islice(_least_certain(connection, run_id, done, most - count), most - count)


def _least_certain(
    connection: Connection, run_id: int, done: Select[Any], most: int
) -> Iterator[dict[str, Any]]:
    score, probability, key = results.c.score, results.c.probability, results.c.image_id
    scored = select(results.c.threshold).where(results.c.run_id == run_id, score.is_not(None)).limit(1)
    first = connection.execute(scored).first()
    if first is None:
        # One after the other, since the databases put those without a value first, or last.
        yield from _stream(
            connection, done.where(probability.is_not(None)).order_by(probability, key).limit(most)
        )
        yield from _stream(connection, done.where(probability.is_(None)).order_by(key).limit(most))
        return
    middle = UNDECIDED_SCORE if first[0] is None else float(first[0])
    above = done.where(score >= middle).order_by(score, key).limit(most)
    below = done.where(score < middle).order_by(score.desc(), key).limit(most)
    yield from heapq.merge(
        _stream(connection, above),
        _stream(connection, below),
        key=lambda row: (abs(row["score"] - middle), row["id"]),
    )
    yield from _stream(connection, done.where(score.is_(None)).order_by(key).limit(most))


def find_result(connection: Connection, run_id: int, image_id: int) -> dict[str, Any] | None:
    """The result of one image of a run, or None where it has none (yet)."""
    row = connection.execute(
        _shown().where(images.c.id == a_key(image_id), images.c.run_id == run_id)
    ).first()
    return None if row is None else dict(row._mapping)


def results_by_path(connection: Connection, run_id: int, paths: list[str]) -> dict[str, dict[str, Any]]:
    """The results of these images of a run, by path; those without one are left out."""
    statement = _shown().where(images.c.run_id == run_id, images.c.path.in_(paths))
    return {row.path: dict(row._mapping) for row in connection.execute(statement)}


def result_mark(row: dict[str, Any]) -> str:
    """What tells a result from one of another time or content; `row` has `sha256` and `finished_at`."""
    return f"{(row['sha256'] or '')[:16]}-{row['finished_at'].timestamp():.6f}"


@dataclass(frozen=True)
class RunCounts:
    """How many results of a run have which value. `odd` counts each word; `not_checked` has none.

    `scores`: by score in `BINS` equal steps of 0 to 100. `probabilities`: by predicted class, that of it, in
    `BINS` steps of 0 to 1.
    """

    classes: dict[str, int]
    reasons: dict[str, int]
    decisions: dict[str, int]
    odd: dict[str, int]
    not_checked: int
    scores: list[int]
    probabilities: dict[str, list[int]]


def count_results(connection: Connection, run_id: int) -> RunCounts:
    """Count a run's results; reads all of them, which takes seconds for a million."""
    odd: Counter[str] = Counter()
    not_checked = 0
    for words, count in _counted(connection, run_id, results.c.odd, status="done"):
        if words is None:
            not_checked = count
        for word in filter(None, (words or "").split(",")):
            odd[word.strip()] += count
    probabilities: dict[str, list[int]] = {}
    by_class = _bins(connection, run_id, results.c.probability, 1.0, results.c["class"])
    for name, place, count in by_class:
        probabilities.setdefault(str(name), [0] * BINS)[place] += count
    scores = [0] * BINS
    for _, place, count in _bins(connection, run_id, results.c.score, 100.0, results.c.status):
        scores[place] += count
    return RunCounts(
        # Not of the bins: an image in which a model of findings sees none has no probability.
        classes=dict(sorted(_counted(connection, run_id, results.c["class"], "done"))),
        reasons={
            str(reason): count
            for reason, count in _counted(connection, run_id, results.c.reason, status="failed")
        },
        decisions={
            str(decision): count
            for decision, count in _counted(connection, run_id, results.c.decision, status="done")
            if decision is not None
        },
        odd=dict(odd.most_common()),
        not_checked=not_checked,
        scores=scores,
        probabilities=probabilities,
    )


def _shown() -> Select[Any]:
    return select(*SHOWN_COLUMNS).select_from(results.join(images, images.c.id == results.c.image_id))


def _stream(connection: Connection, statement: Select[Any]) -> Iterator[dict[str, Any]]:
    for row in connection.execution_options(yield_per=_BATCH).execute(statement):
        yield dict(row._mapping)


def _counted(
    connection: Connection, run_id: int, column: ColumnElement[Any], status: str
) -> list[tuple[Any, int]]:
    statement = (
        select(column, func.count())
        .where(results.c.run_id == run_id, results.c.status == status)
        .group_by(column)
        .order_by(func.count().desc(), column)
    )
    return [(row[0], int(row[1])) for row in connection.execute(statement)]


def _bins(
    connection: Connection, run_id: int, value: ColumnElement[Any], top: float, group: ColumnElement[Any]
) -> Iterator[tuple[Any, int, int]]:
    """Group, bin and count; `top` itself is in the last bin."""
    scaled = value * (BINS / top)
    # Of values that are not negative: SQLite's CAST cuts, Postgres's rounds.
    place = cast(scaled if connection.dialect.name == "sqlite" else func.floor(scaled), Integer)
    statement = (
        select(group, place, func.count())
        .where(results.c.run_id == run_id, value.is_not(None))
        .group_by(group, place)
        .order_by(group, place)
    )
    for row in connection.execute(statement):
        yield row[0], min(max(int(row[1]), 0), BINS - 1), int(row[2])
