"""What a threshold means for people who are screened, at the prevalence among them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve

from worker.intervals import Interval, share_intervals


@dataclass(frozen=True)
class Screening:
    """What a threshold gives. `ppv`, `npv`: predictive values, None where nobody is referred, or everybody;
    `missed`, `referred`: of 1,000 people. Intervals, 95%: of sensitivity and specificity Wilson's, of the
    others what these limits give together, which is rather too wide; the prevalence is taken as known."""

    threshold: float
    sensitivity: float
    sensitivity_interval: Interval
    specificity: float
    specificity_interval: Interval
    ppv: float | None
    ppv_interval: Interval | None
    npv: float | None
    npv_interval: Interval | None
    missed: float
    missed_interval: Interval
    referred: float
    referred_interval: Interval

    @property
    def columns(self) -> dict[str, Any]:
        """Its numbers by name, each interval as `NAME_low` and `NAME_high`."""
        found: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name.endswith("_interval"):
                low, high = (None, None) if value is None else value
                found |= {name.replace("_interval", "_low"): low, name.replace("_interval", "_high"): high}
            else:
                found[name] = value
        return found


def screening(
    threshold: float,
    sensitivity: float,
    specificity: float,
    prevalence: float,
    sensitivity_interval: Interval,
    specificity_interval: Interval,
) -> Screening:
    """Predictive values by Bayes' rule, and people of 1,000, at `prevalence`, 0 to 1."""
    (least, most), (lowest, highest) = sensitivity_interval, specificity_interval
    ppv, npv, missed, referred = _of_people(sensitivity, specificity, prevalence)
    ppv_low, npv_low, missed_high, _ = _of_people(least, lowest, prevalence)
    ppv_high, npv_high, missed_low, _ = _of_people(most, highest, prevalence)
    # The more of the ill are referred and the fewer of the well are cleared, the more people are.
    referred_low = _of_people(least, highest, prevalence)[3]
    referred_high = _of_people(most, lowest, prevalence)[3]
    return Screening(
        threshold=threshold,
        sensitivity=sensitivity,
        sensitivity_interval=sensitivity_interval,
        specificity=specificity,
        specificity_interval=specificity_interval,
        ppv=ppv,
        ppv_interval=None if ppv is None or ppv_low is None or ppv_high is None else (ppv_low, ppv_high),
        npv=npv,
        npv_interval=None if npv is None or npv_low is None or npv_high is None else (npv_low, npv_high),
        missed=missed,
        missed_interval=(missed_low, missed_high),
        referred=referred,
        referred_interval=(referred_low, referred_high),
    )


def _of_people(
    sensitivity: float, specificity: float, prevalence: float
) -> tuple[float | None, float | None, float, float]:
    """PPV, NPV, and of 1,000 people those missed and those referred."""
    ill_referred = prevalence * sensitivity
    ill_missed = prevalence * (1.0 - sensitivity)
    well_referred = (1.0 - prevalence) * (1.0 - specificity)
    well_cleared = (1.0 - prevalence) * specificity
    referred, cleared = ill_referred + well_referred, ill_missed + well_cleared
    return (
        ill_referred / referred if referred > 0 else None,
        well_cleared / cleared if cleared > 0 else None,
        1000.0 * ill_missed,
        1000.0 * referred,
    )


def every_threshold(positive: ArrayLike, scores: ArrayLike, prevalence: float) -> list[Screening]:
    """One entry for each threshold that refers other images than the next, highest first."""
    false_alarms, hits, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    ill = int(np.sum(positive))
    of_ill = share_intervals(np.round(hits * ill), ill).T
    well = np.size(positive) - ill
    of_well = share_intervals(np.round((1.0 - false_alarms) * well), well).T
    return [
        screening(
            min(float(threshold), 100.0),
            float(hit),
            float(1.0 - alarm),
            prevalence,
            (float(some[0]), float(some[1])),
            (float(others[0]), float(others[1])),
        )
        for alarm, hit, threshold, some, others in zip(
            false_alarms[1:], hits[1:], thresholds[1:], of_ill[1:], of_well[1:], strict=True
        )
    ]
