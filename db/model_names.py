"""A model's name stands for one content as long as anything in the ledger bears it, deleted or not."""

from __future__ import annotations

from sqlalchemy import Connection, or_, select, union

from db.errors import ModelNameTaken
from db.schema import deleted_models, results, runs, trainings

_NAMED = 5  # runs, or trainings, that a message lists


def refuse_name_of_another(connection: Connection, version: str, digest: str | None = None) -> None:
    """Raises ModelNameTaken where `version` is the name of a deleted model of another content than `digest`
    (None: not known yet), and a run or a training bears it: its figures would pass for those of the new one.
    """
    before = connection.execute(
        select(deleted_models.c.digest).where(deleted_models.c.version == version)
    ).scalar()
    if before in (None, digest):
        return
    of_runs = union(
        select(results.c.run_id.label("id")).where(results.c.model_version == version),
        select(runs.c.id).where(runs.c.pinned_model == version),
    ).subquery()
    of_trainings = select(trainings.c.id).where(
        or_(trainings.c.version == version, trainings.c.init_weights == version)
    )
    numbers = {
        "run": list(connection.execute(select(of_runs.c.id).order_by(of_runs.c.id)).scalars()),
        "training": list(connection.execute(of_trainings.order_by(trainings.c.id)).scalars()),
    }
    bearers = [_listed(what, found) for what, found in numbers.items() if found]
    if bearers:
        ways = ["give this one another version"]
        if not numbers["training"]:
            ways.append("delete what bears the name: xraycam runs delete RUN")
        raise ModelNameTaken(
            f"{version} is the name of another model, deleted since, that {' and '.join(bearers)} "
            f"{'bear' if sum(map(len, numbers.values())) > 1 else 'bears'}; {', or '.join(ways)}"
        )


def _listed(what: str, numbers: list[int]) -> str:
    """'run 3' or 'runs 3, 4 and 7 more'."""
    shown = ", ".join(map(str, numbers[:_NAMED]))
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"{what}{'s' if len(numbers) > 1 else ''} {shown}{more}"
