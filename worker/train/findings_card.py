"""What a model card says of findings that do not exclude each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.interval_words import figure_with_interval, with_interval

Table = Callable[[list[str], list[list[Any]]], str]


def validation_of_findings(figures: dict[str, Any], table: Table) -> str:
    """The figures of each finding, and their means, as Markdown."""
    rows = [
        [
            name,
            f"{one['present']} / {one['absent']} / {one['unknown']}",
            figure_with_interval(one, "auc"),
            with_interval(one["at_half"]["sensitivity"], one["sensitivity_interval"]),
            with_interval(one["at_half"]["specificity"], one["specificity_interval"]),
        ]
        for name, one in figures["by_class"].items()
    ]
    rows.append(
        [
            "mean",
            "",
            figure_with_interval(figures, "auc"),
            f"{figures['sensitivity']:.3f}",
            f"{figures['specificity']:.3f}",
        ]
    )
    head = ["finding", "with / without / not known", "AUC (95% interval)"]
    head += ["sensitivity at 0.5", "specificity at 0.5"]
    text = (
        "Each finding is measured on the images on which it is known. Over all of them the Brier score is "
        f"{figures['brier']:.3f}; calibrated, with one temperature for all findings, "
        f"{figures['temperature']:.2f}, it is {figures['brier_with_temperature']:.3f}, and the calibration "
        f"error {figures['expected_calibration_error']:.3f}."
    )
    return f"{table(head, rows)}\n\n{text}"
