"""Deleting runs and model versions: said and asked first, then done."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from db.deletion import (
    cancel_for_deletion,
    check_model_deletable,
    delete_model,
    delete_run,
    results_by_model,
)
from db.results import Filter, read_predictions
from db.runs import HALTED, get_run, progress
from worker.counted_words import counted
from worker.errors import XraycamError
from worker.our_folders import RUN_MARKER
from worker.remote.folder import RemoteFolder, place_of

if TYPE_CHECKING:
    from db.runs import Run
    from producer.session import Session


def delete_run_of(session: Session, number: int, *, overlays: bool, yes: bool) -> None:
    """Delete a run, and with `overlays` the files it wrote. Raises RunNotFound and DeletionRefused."""
    run = session.ledger.query(get_run, number)
    found = session.ledger.query(progress, number)
    files = "its overlays, heatmaps and predictions.csv in" if overlays else "kept: overlays in"
    click.echo(
        f"run {number} of {run.asked}: {counted(found.images, 'row')} of images, "
        f"{counted(found.done + found.failed, 'result')}; {files} {run.output}",
        err=True,
    )
    if not found.is_complete and run.state not in HALTED:
        click.echo(f"it is unfinished: {counted(found.pending, 'image')} without a result", err=True)
    _confirm(f"delete run {number}?", yes)
    session.ledger.write(cancel_for_deletion, number)
    removed, left = _remove_files(session, run) if overlays else (0, 0)
    session.ledger.write(delete_run, number)
    click.echo(
        f"run {number} deleted" + (f", {counted(removed, 'file')} removed" if overlays else "")
        + (f"; {counted(left, 'other file')} left in {run.output}" if left else "")
    )  # fmt: skip


def _remove_files(session: Session, run: Run) -> tuple[int, int]:
    """Remove what the run wrote below its own folder; how many files, and how many others are left."""
    place = place_of(run.output)
    if isinstance(place, RemoteFolder):
        return _remove_objects(session, run, place)
    folder = place
    inside = folder.resolve()
    removed = 0
    wanted = Filter(run=run.id, status="done")
    named = (row[kind] for row in read_predictions(session.ledger, wanted) for kind in ("overlay", "heatmap"))
    for name in (*filter(None, named), str(folder / "predictions.csv")):
        file = Path(name)
        if not file.parent.resolve().is_relative_to(inside):
            continue
        try:
            file.unlink()
            removed += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            raise XraycamError(
                f"{name} cannot be deleted: {error.strerror}; run {run.id} is kept, cancelled: change the "
                f"permissions, or delete it without --overlays"
            ) from error
    with suppress(OSError):
        (folder / RUN_MARKER).unlink()
    left = 0
    for place in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
        if place.is_dir() and not place.is_symlink():
            with suppress(OSError):
                place.rmdir()
        else:
            left += 1
    with suppress(OSError):
        folder.rmdir()
    return removed, left


def _remove_objects(session: Session, run: Run, place: RemoteFolder) -> tuple[int, int]:
    """The same in an object store."""
    wanted = Filter(run=run.id, status="done")
    named = (row[kind] for row in read_predictions(session.ledger, wanted) for kind in ("overlay", "heatmap"))
    removed = place.delete(place.named(name).path for name in filter(None, named))
    place.delete(["predictions.csv", RUN_MARKER])
    return removed, sum(1 for _ in place.list())


def delete_model_of(session: Session, version: str, *, yes: bool) -> None:
    """Delete a version from ledger and store. Raises ModelNotFound, DeletionRefused, and ModelError where the
    store does not let its folder be removed."""
    from db.models import get_model
    from db.operating_points import sites_of_version
    from worker.model.store import store_of

    model = session.ledger.query(get_model, version)
    store = store_of(session.settings)
    with session.ledger.read() as connection:
        check_model_deletable(connection, version)
        results, in_runs = results_by_model(connection, version)
        sites = sites_of_version(connection, version)
    click.echo(f"model {version} ({model.source}): its folder in {store}", err=True)
    if results:
        click.echo(
            f"{counted(results, 'result')} in {counted(in_runs, 'run')} made by it stay, and no other model "
            "gets its name meanwhile",
            err=True,
        )
    if sites:
        click.echo(f"its thresholds go, too: those of {', '.join(sites)}", err=True)
    _confirm(f"delete model {version}?", yes)
    lost = session.ledger.write(delete_model, version)
    store.remove(version)
    click.echo(f"model {version} deleted" + (f", and its thresholds of {', '.join(lost)}" if lost else ""))


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise XraycamError(f"{question} nobody can be asked here: add --yes")
    click.confirm(question, abort=True, err=True)
