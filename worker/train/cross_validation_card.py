"""What a model card says of cross-validations of its recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.interval_words import figure_with_interval

Table = Callable[[list[str], list[list[Any]]], str]


def in_cross_validation(found: dict[str, Any], own: str, table: Table) -> list[str]:
    """Paragraphs on cross-validations `found`, by recipe, of which `own` is the version's; none without."""
    if not found:
        return []
    rows = []
    for name, one in found.items():
        rows.append(
            [
                name + (" (*)" if one["epoch_chosen_on_held_out_images"] else ""),
                f"{one['mean_auc']:.3f}",
                ", ".join(f"{auc:.3f}" for auc in one["fold_auc"]),
                figure_with_interval(one["pooled"], "auc"),
                f"{one['pooled']['sensitivity']:.3f} / {one['pooled']['specificity']:.3f}",
                f"{one['pooled']['specificity_at_sensitivity_90']:.3f}",
            ]
        )
    head = ["recipe", "mean AUC", "AUC of each fold", "all images pooled (95%)"]
    head += ["sensitivity / specificity at 0.5", "specificity at 90% sensitivity"]
    text = (
        f"{len(next(iter(found.values()))['folds'])} folds; every image is judged by a network that has not "
        f"seen it. Those of `{own}` were trained as this model was, on other parts of the data. That recipe "
        "was chosen by such cross-validations of these images, which flatters it: expect less of new ones."
    )
    if any(one["epoch_chosen_on_held_out_images"] for one in found.values()):
        text += " (*) keeps the epoch that is best on the images it is judged on, which flatters it."
    parts = ["## Figures in cross-validation", text, table(head, rows)]
    if own in found:
        one = found[own]
        parts += [*_sources(one, table), *_changed(one, table), *_heat(one, table)]
    return parts


def _sources(one: dict[str, Any], table: Table) -> list[str]:
    rows = [
        [source, found["images"], figure_with_interval(found, "auc")]
        for source, found in one.get("by_source", {}).items()
    ]
    head = ["images of", "images", "mean AUC of the folds (95%)"]
    text = "By where the images are from; networks of each fold were trained on all of these:"
    return [text, table(head, rows)] if rows else []


def _changed(one: dict[str, Any], table: Table) -> list[str]:
    if not one.get("pooled_auc_on_changed_copies"):
        return []
    rows = [["as they are", f"{one['pooled']['auc']:.3f}"]]
    rows += [[name, f"{auc:.3f}"] for name, auc in one["pooled_auc_on_changed_copies"].items()]
    return [
        "On changed copies of the held-out images, a guess at what other hospitals' images look like:",
        table(["copies", "AUC, pooled"], rows),
    ]


def _heat(one: dict[str, Any], table: Table) -> list[str]:
    rows = [
        [
            kind,
            f"`{layer}`",
            figures["images"],
            f"{figures['hit_rate']:.2f}",
            f"{figures['share_of_heat']:.2f}",
            f"{figures['area']:.2f}",
            figures["blank"],
        ]
        for kind, layers in one["heat"].items()
        for layer, figures in layers.items()
    ]
    if not rows:
        return []
    head = ["area", "layer", "images", "hottest point in it", "share of heat", "chance", "blank maps"]
    return [
        "Where the heat of Grad-CAM falls on held-out images; chance is the share of the picture that the "
        "area covers:",
        table(head, rows),
    ]
