"""Deleting runs and model versions, unless somebody works with them."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, or_, select, update

from db.dialect import insert_of, now
from db.errors import DeletionRefused, ModelNotFound, RunNotFound
from db.operating_points import sites_of_version
from db.runs import CANCELLED, HALTED, SCANNING
from db.schema import chunks, deleted_models, models, operating_points, results, runs, trainings
from db.trainings import QUEUED, RUNNING


def cancel_for_deletion(connection: Connection, run_id: int) -> None:
    """Cancel a run that is to be deleted, so that no worker takes a chunk of it meanwhile.

    Raises RunNotFound, and DeletionRefused, changing nothing, while a worker holds one.
    """
    state = connection.execute(select(runs.c.state).where(runs.c.id == run_id).with_for_update()).scalar()
    if state is None:
        raise RunNotFound(f"there is no run {run_id}; 'xraycam runs' lists them")
    _refuse_leased(connection, run_id)
    if state not in HALTED:
        connection.execute(update(runs).where(runs.c.id == run_id).values(state=CANCELLED))


def delete_run(connection: Connection, run_id: int) -> int:
    """Delete a run with all its rows; how many results it had. Call `cancel_for_deletion` before.

    Raises DeletionRefused where it was resumed in between and a worker holds a chunk of it.
    """
    _refuse_leased(connection, run_id)
    count = connection.execute(
        select(func.count()).select_from(results).where(results.c.run_id == run_id)
    ).scalar_one()
    connection.execute(delete(runs).where(runs.c.id == run_id))
    return int(count)


def _refuse_leased(connection: Connection, run_id: int) -> None:
    owners = list(
        connection.execute(
            select(chunks.c.owner)
            .where(
                chunks.c.run_id == run_id, chunks.c.finished_at.is_(None), chunks.c.lease_expires_at > now()
            )
            .distinct()
            .order_by(chunks.c.owner)
        ).scalars()
    )
    if owners:
        raise DeletionRefused(
            f"run {run_id} is not deleted: {', '.join(owners)} works on it; 'xraycam cancel {run_id}' stops "
            "it, then try again"
        )


def results_by_model(connection: Connection, version: str) -> tuple[int, int]:
    """How many results a version made, and in how many runs."""
    found = connection.execute(
        select(func.count(), func.count(results.c.run_id.distinct())).where(
            results.c.model_version == version
        )
    ).one()
    return int(found[0]), int(found[1])


def check_model_deletable(connection: Connection, version: str) -> None:
    """Raises ModelNotFound, and DeletionRefused for a version that is current or in use."""
    if connection.execute(select(models.c.version).where(models.c.version == version)).first() is None:
        raise ModelNotFound(f"there is no model {version!r}; 'xraycam models' lists them")
    current = connection.execute(
        select(models.c.version)
        .where(models.c.promoted_at.is_not(None))
        .order_by(models.c.promoted_at.desc(), models.c.version.desc())
        .limit(1)
    ).scalar()
    if current == version:
        raise DeletionRefused(
            f"model {version} is not deleted: it is current; 'xraycam models promote VERSION' makes another "
            "one current first"
        )
    unfinished = select(chunks.c.run_id).where(chunks.c.run_id == runs.c.id, chunks.c.finished_at.is_(None))
    pinned = connection.execute(
        select(runs.c.id, runs.c.state)
        .where(runs.c.pinned_model == version, runs.c.state != CANCELLED)
        .where(or_(runs.c.state == SCANNING, unfinished.exists()))
        .order_by(runs.c.id)
    ).all()
    if pinned:
        named = ", ".join(f"run {key} ({state})" for key, state in pinned)
        raise DeletionRefused(
            f"model {version} is not deleted: {named} is to be explained by it; finish or cancel that first"
        )
    training = connection.execute(
        select(trainings.c.id)
        .where(trainings.c.init_weights == version, trainings.c.state.in_((QUEUED, RUNNING)))
        .order_by(trainings.c.id)
        .limit(1)
    ).scalar()
    if training is not None:
        raise DeletionRefused(
            f"model {version} is not deleted: training {training} starts from it; wait for it or cancel it"
        )


def delete_model(connection: Connection, version: str) -> list[str]:
    """Forget a version and its thresholds; the sites that had one. Its folder in the store is left to the
    caller. Its name and digest are kept, since results still bear the name, see `refuse_name_of_another`.
    Raises as `check_model_deletable`."""
    check_model_deletable(connection, version)
    sites = sites_of_version(connection, version)
    digest = connection.execute(
        delete(models).where(models.c.version == version).returning(models.c.digest)
    ).scalar_one()
    connection.execute(delete(operating_points).where(operating_points.c.model_version == version))
    insert = insert_of(connection.dialect.name)
    connection.execute(insert(deleted_models).values(version=version, digest=digest, deleted_at=now()))
    return sites
