"""What a threshold means for people who are screened, at the prevalence among them."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve


@dataclass(frozen=True)
class Screening:
    """What a threshold gives. `ppv`, `npv`: predictive values, None where nobody is referred, or everybody;
    `missed`, `referred`: of 1,000 people."""

    threshold: float
    sensitivity: float
    specificity: float
    ppv: float | None
    npv: float | None
    missed: float
    referred: float


def screening(threshold: float, sensitivity: float, specificity: float, prevalence: float) -> Screening:
    """Predictive values by Bayes' rule, and people of 1,000, at `prevalence`, 0 to 1."""
    ill_referred = prevalence * sensitivity
    ill_missed = prevalence * (1.0 - sensitivity)
    well_referred = (1.0 - prevalence) * (1.0 - specificity)
    well_cleared = (1.0 - prevalence) * specificity
    referred, cleared = ill_referred + well_referred, ill_missed + well_cleared
    return Screening(
        threshold=threshold,
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=ill_referred / referred if referred > 0 else None,
        npv=well_cleared / cleared if cleared > 0 else None,
        missed=1000.0 * ill_missed,
        referred=1000.0 * referred,
    )


def every_threshold(positive: ArrayLike, scores: ArrayLike, prevalence: float) -> list[Screening]:
    """One entry for each threshold that refers other images than the next, highest first."""
    false_alarms, hits, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    return [
        screening(min(float(threshold), 100.0), float(hit), float(1.0 - alarm), prevalence)
        for alarm, hit, threshold in zip(false_alarms[1:], hits[1:], thresholds[1:], strict=True)
    ]
