"""What is said on standard error beside a run's results: why they are not all, or not of what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.counted_words import counted

if TYPE_CHECKING:
    from db.runs import Run
    from producer.session import Session


def unfinished_note(session: Session, run: Run, per: str = "image") -> str | None:
    """Of images without a result; None where the run is whole. `per`: what the results are rows of."""
    from db.runs import HALTED, get_run, progress

    stands = session.ledger.query(get_run, run.id)
    pending = session.ledger.query(progress, run.id).pending
    changes = "" if per == "image" else f"; a {per} may change"
    if not stands.is_scanned:
        return f"run {run.id} does not know all its files: {run.root} was not scanned to the end{changes}"
    if not pending:
        return None
    has = f"{counted(pending, 'image')} of run {run.id} {'has' if pending == 1 else 'have'} no result"
    if stands.state in HALTED:
        return f"{has}, it was {stands.state}: 'xraycam resume {run.id}' does the rest{changes}"
    return f"{has} yet{changes}"


def versions_note(session: Session, run: Run) -> str | None:
    """Of a run that several model versions explained; None for one, as of a run that named its model."""
    from db.results import model_versions_of_run

    if run.pinned_model is not None:
        return None
    versions = session.ledger.query(model_versions_of_run, run.id)
    if len(versions) < 2:
        return None
    return (
        f"run {run.id} was explained by {len(versions)} models ({', '.join(versions)}), since another "
        "became current: their scores cannot be compared; the column model_version tells them apart, and "
        "'run --model VERSION' explains all by one"
    )


def gone_note(session: Session, run: Run, per: str = "image") -> str | None:
    """Of files deleted since; None where there is none. `per`: as for `unfinished_note`."""
    from db.gone_files import count_gone

    count = sum(session.ledger.query(count_gone, run.id).values())
    if not count:
        return None
    what = (
        "their rows have gone_at set"
        if per == "image"
        else f"the rows by {per} count {'it' if count == 1 else 'them'} still"
    )
    return (
        f"{counted(count, 'image')} of run {run.id} {'is' if count == 1 else 'are'} no longer in "
        f"{run.root}: {what}"
    )
