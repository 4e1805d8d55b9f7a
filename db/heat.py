"""Where the heat of a run's maps lies, on average."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from db.ledger import Ledger
from db.schema import chunks, images, results


@dataclass(frozen=True)
class ClassHeat:
    """Means over the images whose heatmap is of `class_name`, blank ones left out of all but `blank`.

    `border`, `corner` and `marked` are shares of the heat, as the columns of `results` say; `marked` is
    None where no image has a marked area.
    """

    class_name: str
    images: int
    blank: int
    border: float
    corner: float
    marked: float | None
    marked_images: int


def heat_by_class(ledger: Ledger, run_id: int, one_in: int = 1) -> list[ClassHeat]:
    """One entry for each class that was explained and has a map that is not blank, by name.

    `one_in`: look at one in so many of the run's chunks only.
    """
    of = results.c.explained_class
    statement = (
        select(
            of,
            func.count(results.c.heat_border),
            func.count().filter(results.c.heat_border.is_(None)),
            func.avg(results.c.heat_border),
            func.avg(results.c.heat_corner),
            func.avg(results.c.heat_marked),
            func.count(results.c.heat_marked),
        )
        .where(results.c.run_id == run_id, results.c.status == "done", of.is_not(None))
        .group_by(of)
        .having(func.count(results.c.heat_border) > 0)
        .order_by(of)
    )
    if one_in > 1:
        some = select(chunks.c.number).where(chunks.c.run_id == run_id, chunks.c.number % one_in == 0)
        of_some = select(images.c.id).where(images.c.run_id == run_id, images.c.chunk.in_(some))
        statement = statement.where(results.c.image_id.in_(of_some))
    with ledger.read() as connection:
        rows = connection.execute(statement).all()
    return [ClassHeat(*row) for row in rows]


def versions_used(ledger: Ledger, run_id: int) -> list[str]:
    """The model versions that explained images of a run, by name; of each chunk one image is asked."""
    one = (
        select(results.c.model_version)
        .select_from(images.join(results, results.c.image_id == images.c.id))
        .where(
            images.c.run_id == chunks.c.run_id,
            images.c.chunk == chunks.c.number,
            results.c.status == "done",
            results.c.model_version.is_not(None),
        )
        .limit(1)
        .correlate(chunks)
        .scalar_subquery()
    )
    statement = select(one).where(chunks.c.run_id == run_id, chunks.c.done > 0).distinct()
    with ledger.read() as connection:
        return sorted(str(name) for name in connection.execute(statement).scalars() if name is not None)
