"""How the values of a run's results are distributed, counted by the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, select

from db.schema import chunks, images, results


def count_below(
    connection: Connection,
    run_id: int,
    model_version: str,
    edges: Mapping[str, Sequence[float]],
    sample_every: int = 1,
) -> dict[str, tuple[int, list[int]]]:
    """By column of `edges`: how many of a run's done images by this version have a value, and for each edge
    how many have one below it.

    `sample_every`: look at one in so many of the run's chunks only.
    """
    columns = []
    for name, values in edges.items():
        column = results.c[name]
        columns += [func.count(column), *(func.count().filter(column < edge) for edge in values)]
    if not columns:
        return {}
    statement = select(*columns).where(
        results.c.run_id == run_id, results.c.status == "done", results.c.model_version == model_version
    )
    if sample_every > 1:
        some = select(chunks.c.number).where(chunks.c.run_id == run_id, chunks.c.number % sample_every == 0)
        of_some = select(images.c.id).where(images.c.run_id == run_id, images.c.chunk.in_(some))
        statement = statement.where(results.c.image_id.in_(of_some))
    counts = [int(value) for value in connection.execute(statement).one()]
    found, start = {}, 0
    for name, values in edges.items():
        found[name] = (counts[start], counts[start + 1 : start + 1 + len(values)])
        start += 1 + len(values)
    return found
