"""Whether an image is referred: by its score and the run's threshold, unless it cannot be decided."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from db.results import FINDING_FROM as FINDING_FROM

# The class of an image in which a model of findings sees none at 0.5 or more.
NO_FINDING = "no finding"
REFER, DO_NOT_REFER, NOT_DECIDED = "refer", "do-not-refer", "not-decided"


def findings_seen(
    probabilities: Mapping[str, float] | None, findings: Collection[str] | None = None
) -> list[tuple[str, float]]:
    """Names and probabilities of those at 0.5 or more, the highest first. `findings`: the names that do not
    exclude each other, None: all. Of classes that do, each with a sigmoid, several may reach 0.5, and only
    the most probable is meant."""
    seen = [
        (name, value)
        for name, value in (probabilities or {}).items()
        if value >= FINDING_FROM and (findings is None or name in findings)
    ]
    return sorted(seen, key=lambda one: (-one[1], one[0]))


def decision(score: float | None, threshold: float | None, odd: str | None) -> str | None:
    """None where no threshold was set. Not decided: an image that failed, and so has no score, and one that
    is `odd` (words; empty or None: it is not, or was not checked)."""
    if threshold is None:
        return None
    if score is None or odd:
        return NOT_DECIDED
    return REFER if score >= threshold else DO_NOT_REFER
