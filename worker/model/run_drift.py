"""Whether a run's scores and pictures are like those its version, or its site, was measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.distributions import count_below
from db.errors import LedgerError
from db.models import get_model
from db.operating_points import site_threshold
from db.results import model_versions_of_run
from db.runs import progress
from worker.errors import XraycamError
from worker.model.drift import Shift, shift
from worker.model.metadata import read_metadata
from worker.model.score_reference import COMPARED, Distribution
from worker.model.store import ModelStore

if TYPE_CHECKING:
    from db.ledger import Ledger
    from db.runs import Run

# As for the heat of a run: means over some ten thousands of images are exact enough.
CHUNKS_LOOKED_AT = 500


@dataclass(frozen=True)
class Drift:
    """How one column of a run's results has moved from that of `reference`, a version or a site in words."""

    column: str
    reference: str
    shift: Shift


def drift_of_run(ledger: Ledger, store: ModelStore, run: Run) -> Iterator[Drift]:
    """For each version that explained images of `run` and each column that can be compared; none for a
    version that is gone or has nothing to compare with, nor for too few images."""
    sample_every = max(1, ledger.query(progress, run.id).chunks // CHUNKS_LOOKED_AT)
    for version in ledger.query(model_versions_of_run, run.id):
        reference, distributions = _reference(ledger, store, version, run.options.get("site"))
        edges = {name: distributions[name].edges for name in COMPARED if name in distributions}
        counts = ledger.query(count_below, run.id, version, edges, sample_every)
        for name, (total, below) in counts.items():
            found = shift(distributions[name], below, total)
            if found is not None:
                yield Drift(name, reference, found)


def _reference(
    ledger: Ledger, store: ModelStore, version: str, site: str | None
) -> tuple[str, Mapping[str, Distribution]]:
    if site is not None:
        of_site = ledger.query(site_threshold, site, version)
        if of_site is not None:
            seen = of_site.figures.get("distributions", {})
            return f"site {site}", {name: Distribution.model_validate(one) for name, one in seen.items()}
    try:
        model = ledger.query(get_model, version)
        return f"version {version}", read_metadata(store.fetch(model.version, model.digest)).distributions
    except (XraycamError, LedgerError):
        return f"version {version}", {}


def drift_report(ledger: Ledger, store: ModelStore, run: Run) -> Iterator[str]:
    """A warning for each column that has moved far."""
    for one in drift_of_run(ledger, store, run):
        if one.shift.is_large:
            yield (
                f"warning: {one.column} is distributed otherwise than in the images of {one.reference}: "
                f"PSI {one.shift.psi:.2f}, KS {one.shift.ks:.2f}, over {one.shift.images} images; "
                "thresholds may not hold: check them with 'xraycam calibrate --check'"
            )
