"""What the figures of a version do not bear out, in sentences for people; from `Metrics` in JSON's types."""

from __future__ import annotations

from typing import Any

from worker.counted_words import counted
from worker.interval_words import figure_with_interval

# With 20 images of each class the 95% interval of an AUC of 0.9 is 0.2 wide (Hanley and McNeil, 1982).
FEW_IMAGES = 20


def doubts(figures: dict[str, Any], *, name_rare: bool = True) -> list[str]:
    """A sentence for each kind of doubt, none where there is none. `name_rare`: also which classes or
    findings few images have."""
    findings = figures.get("output") == "sigmoid"
    found = _same_for_all(figures, findings)
    found += _no_better_than_chance(figures, findings)
    found += _never_said(figures) if findings else _never_predicted(figures)
    return found + (_rare(figures, findings) if name_rare else [])


def is_flat(figures: dict[str, Any]) -> bool:
    """Whether all classes or findings get the same probability on all images."""
    flat = figures.get("flat") or ()
    return 0 < len(flat) == len(figures["classes"])


def _same_for_all(figures: dict[str, Any], findings: bool) -> list[str]:
    flat = list(figures.get("flat", ()))
    if not flat:
        return []
    images = figures.get("images_in_all") or sum(figures["images"].values())
    of = f" of {', '.join(flat)}" if findings or not is_flat(figures) else ""
    return [f"nearly the same probability{of} for all {counted(images, 'image')}: nothing was learned there"]


def _no_better_than_chance(figures: dict[str, Any], findings: bool) -> list[str]:
    rated = figures["by_class"] if findings else {"": figures}
    weak = [
        f"{name} {figure_with_interval(one, 'auc')}".strip()
        for name, one in rated.items()
        if name not in figures.get("flat", ())
        and one["auc"] is not None
        and one["auc_interval"][0] is not None
        and one["auc_interval"][0] <= 0.5
    ]
    if not weak or is_flat(figures):
        return []
    return [f"not shown to be better than chance, 0.5, by AUC (95% interval): {', '.join(weak)}"]


def _never_said(figures: dict[str, Any]) -> list[str]:
    silent = [
        name
        for name, one in figures["by_class"].items()
        if one["present"] and one["at_half"]["sensitivity"] == 0 and one["at_half"]["specificity"] == 1
    ]
    if not silent:
        return []
    return [f"never at 0.5 or more, so that 'class' and captions do not name it: {', '.join(silent)}"]


def _never_predicted(figures: dict[str, Any]) -> list[str]:
    if figures.get("flat"):
        return []
    predicted = (sum(column) for column in zip(*figures["confusion"], strict=True))
    silent = [name for name, times in zip(figures["classes"], predicted, strict=True) if not times]
    if not silent:
        return []
    return [f"never the most probable, so that 'class' does not name it: {', '.join(silent)}"]


def _rare(figures: dict[str, Any], findings: bool) -> list[str]:
    rare = [f"{name} ({n})" for name, n in figures["images"].items() if n < FEW_IMAGES]
    if not rare:
        return []
    kind = "with" if findings else "of"
    return [f"fewer than {FEW_IMAGES} images {kind} {', '.join(rare)}: uncertain figures, see the intervals"]
