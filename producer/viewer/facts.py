"""What is to be told of a run beside its images: request, versions, counts, what its models are worth."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Collection
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from db.browse import RunCounts, count_results
from db.errors import LedgerError
from db.ledger import Ledger
from db.models import get_model
from db.results import count_findings, model_versions_of_run
from db.runs import Run, progress, shown_state
from producer.attribution_report import attribution_report
from producer.run_findings import findings_if_known, findings_of
from producer.session import Session
from producer.viewer.model_facts import model_sections
from worker.errors import XraycamError
from worker.explain.decision import NO_FINDING
from worker.explain.names import AUTO
from worker.explain.options import ExplainOptions
from worker.file_names import printable
from worker.model.metadata import read_metadata
from worker.model.store import store_of

_LISTS = {"layers": "--layer", "methods": "--method", "accept": "--accept"}


def run_facts(session: Session, run: Run) -> dict[str, Any]:
    """What the pages show of a run, as JSON; counts everything, which takes seconds for a million images."""
    found = session.ledger.query(progress, run.id)
    findings = findings_of(session, run)
    with session.ledger.read() as connection:
        counts = count_results(connection, run.id)
        having = count_findings(connection, run.id, findings)
    none = {name: count for name, count in counts.classes.items() if name == NO_FINDING or not having}
    versions = session.ledger.query(model_versions_of_run, run.id)
    return {
        "run": {
            "id": run.id,
            "root": printable(run.asked),
            "output": printable(run.output),
            "state": shown_state(run, found),
            "created": run.created_at.isoformat(timespec="seconds"),
        },
        "images": {"all": found.images, "done": found.done, "failed": found.failed, "pending": found.pending},
        "classes": classes_of(session.ledger, versions, counts, findings),
        "findings": list(findings),
        "findings_known": findings_if_known(session.ledger, session.settings, run) is not None,
        "counts": asdict(counts) | {"classes": having | none},
        "command": command_of(run, str(session.settings.overlays)),
        "software": software_versions(),
        "models": [model_facts(session, name) for name in versions],
        "warnings": list(attribution_report(session, run)),
    }


def classes_of(
    ledger: Ledger, versions: list[str], counts: RunCounts, findings: Collection[str]
) -> list[str]:
    """The classes of the models that made a run, in their order; those predicted, where no model is left."""
    names: dict[str, None] = {}
    for one in versions:
        try:
            model = ledger.query(get_model, one)
            names |= dict.fromkeys(model.classes)
            if any(name in findings for name in model.classes):
                names[NO_FINDING] = None  # what a reader may say, too
        except LedgerError:
            continue
    return list(names | dict.fromkeys(counts.classes))


def command_of(run: Run, usual_output: str | None = None) -> str:
    """The command that asks for what the run was asked for, defaults left out, such as its overlays in
    `usual_output`; elsewhere they are asked for, since another place is another run."""
    words = ["xraycam", "run", run.place]
    for glob in run.globs:
        words += ["--glob", glob]
    default = ExplainOptions()
    for name, value in run.options.items():
        if name == "masks_digest":
            continue  # found from the masks
        if name in _LISTS:
            for one in value or ():
                words += [] if one == AUTO else [_LISTS[name], str(one)]
        elif name == "caption":
            words += [] if value else ["--no-caption"]
        elif name == "threshold" and run.options.get("site") is not None:
            continue  # it is the site's
        elif value is True:
            words.append(f"--{name.replace('_', '-')}")
        elif value not in (None, False) and value != getattr(default, name, None):
            words += [f"--{name.replace('_', '-')}", str(value)]
    if run.pinned_model is not None:
        words += ["--model", run.pinned_model]
    output = run.output.rpartition("/")[0]  # below which it has a folder of its own
    if usual_output is not None and output != usual_output:
        words += ["--output", output]
    return printable(shlex.join(words))


def software_versions() -> dict[str, str]:
    """Of this installation, by name."""
    found = {}
    for name in ("xraycam", "tensorflow", "keras", "numpy", "pillow", "pydicom"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"Python": platform.python_version()}


def model_facts(session: Session, name: str) -> dict[str, Any]:
    """A model version and what was measured of it, or why nothing can be said."""
    facts: dict[str, Any] = {"version": name}
    try:
        model = session.ledger.query(get_model, name)
        facts |= {"source": printable(model.source), "digest": model.digest, "classes": list(model.classes)}
        metadata = read_metadata(store_of(session.settings).fetch(model.version, model.digest))
    except (XraycamError, LedgerError) as error:
        return facts | {"missing": str(error), "sections": []}
    return facts | {"created": metadata.created, "sections": model_sections(metadata)}
