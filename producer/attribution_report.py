"""Saying when much of the heat of a run lies where no lung is, and when its model looks there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from db.errors import LedgerError
from db.models import get_model
from db.results import ClassAttribution, attribution_by_class, model_versions_of_run
from db.runs import progress
from worker.counted_words import counted
from worker.errors import XraycamError
from worker.model.kept_copy import training_facts

if TYPE_CHECKING:
    from db.runs import Run
    from producer.session import Session

# A map without any preference has 0.25 of its heat in the corners and 0.44 at the border.
CORNER_WARNING_THRESHOLD = 0.45
BORDER_WARNING_THRESHOLD = 0.65
# Means over some ten thousands of images are exact enough, and a longer run is answered as soon.
CHUNKS_LOOKED_AT = 500


def attribution_report(session: Session, run: Run) -> Iterator[str]:
    """Whatever should be known before the maps of a run are believed: warnings about the versions that made
    it, measured when they were trained, then about its heat."""
    for version in session.ledger.query(model_versions_of_run, run.id):
        yield from occlusion_report_of(session, version)
    sample_every = max(1, session.ledger.query(progress, run.id).chunks // CHUNKS_LOOKED_AT)
    yield from attribution_lines(session.ledger.query(attribution_by_class, run.id, sample_every))
    if sample_every > 1:
        yield f"of the heat, one in {sample_every} chunks was looked at"


def occlusion_report_of(session: Session, version: str) -> Iterator[str]:
    """`occlusion_lines` of a version; none if it is gone."""
    try:
        model = session.ledger.query(get_model, version)
        training = training_facts(session.settings, version, model.digest)
        if training is None:
            from worker.model.metadata import read_metadata
            from worker.model.store import store_of

            training = read_metadata(store_of(session.settings).fetch(version, model.digest)).training
    except (XraycamError, LedgerError):
        return
    yield from occlusion_lines(training)


def occlusion_lines(training: dict[str, Any]) -> Iterator[str]:
    """Warnings from what the training of a version measured; none where it measured nothing."""
    if not training.get("reliance"):
        return
    from pydantic import ValidationError

    from worker.map_evaluation.occlusion_report import OcclusionReport

    try:
        found = [OcclusionReport.model_validate(one) for one in training["reliance"]]
    except (ValidationError, TypeError):
        return
    for one in found:
        yield from one.warnings


def attribution_lines(found: list[ClassAttribution]) -> Iterator[str]:
    """What a person should know of a run's maps: warnings first, then the share in marked areas."""
    for heat in found:
        where = []
        if heat.corner >= CORNER_WARNING_THRESHOLD:
            where.append(f"{heat.corner:.0%} in the corners (25% of the area)")
        if heat.border >= BORDER_WARNING_THRESHOLD:
            where.append(f"{heat.border:.0%} at the border (44% of the area)")
        if where:
            yield (
                f"warning: the score of {heat.class_name} comes from outside the middle of the picture: of "
                f"the heat of {counted(heat.images, 'image')} {' and '.join(where)} on average. A model that "
                "looks at side markers or film edges does this; look at the overlays before you believe it"
            )
    for heat in found:
        if heat.marked is not None:
            yield (
                f"{heat.class_name}: {heat.marked:.0%} of the heat in the marked area, on average over "
                f"{counted(heat.marked_images, 'image')}"
            )
        if heat.blank:
            maps = "1 map is" if heat.blank == 1 else f"{heat.blank} maps are"
            yield f"{heat.class_name}: {maps} blank, drawn as the plain X-ray"
