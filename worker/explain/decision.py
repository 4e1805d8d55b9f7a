"""Whether an image is referred: by its score and the run's threshold, unless it cannot be decided."""

from __future__ import annotations

# The class of an image in which a model of findings sees none at 0.5 or more.
NO_FINDING = "no finding"
FINDING_FROM = 0.5
REFER, DO_NOT_REFER, NOT_DECIDED = "refer", "do-not-refer", "not-decided"


def decision(score: float | None, threshold: float | None, odd: str | None) -> str | None:
    """None where no threshold was set. Not decided: an image that failed, and so has no score, and one that
    is `odd` (words; empty or None: it is not, or was not checked)."""
    if threshold is None:
        return None
    if score is None or odd:
        return NOT_DECIDED
    return REFER if score >= threshold else DO_NOT_REFER
