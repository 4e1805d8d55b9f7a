"""What a model version's training measured, as titled tables that a page can show."""

from __future__ import annotations

from typing import Any

from worker.counted_words import counted
from worker.interval_words import figure_with_interval, of_class, with_interval
from worker.model.doubts import doubts
from worker.model.metadata import ModelMetadata

Section = dict[str, Any]


def model_sections(metadata: ModelMetadata) -> list[Section]:
    """Sections of `title`, `text`, `head` (column names) and `rows` (texts); none where nothing was measured.

    A record that is not as this release writes it is passed over, part by part.
    """
    training = metadata.training
    sections = []
    for part in (_validation, _data, _cross_validation, _faithfulness, _occlusion):
        try:
            section = part(training)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue
        if section is not None:
            sections.append(section)
    return sections


def _section(title: str, text: str, head: list[str], rows: list[list[Any]]) -> Section:
    return {"title": title, "text": text, "head": head, "rows": [[str(cell) for cell in row] for row in rows]}


def _validation(training: dict[str, Any]) -> Section | None:
    found = training.get("validation")
    if not found:
        return None
    if found.get("output") == "sigmoid":
        return _findings(found)
    count, of = sum(found["images"].values()), of_class(found)
    rows = [
        ["Area under the ROC curve", figure_with_interval(found, "auc")],
        [f"Sensitivity{of} at probability 0.5", figure_with_interval(found, "sensitivity")],
        [f"Specificity{of} at probability 0.5", figure_with_interval(found, "specificity")],
        [f"Specificity{of} at 90% sensitivity", f"{found['specificity_at_sensitivity_90']:.3f}"],
        ["Accuracy", figure_with_interval(found, "accuracy")],
        ["Expected calibration error", f"{found['expected_calibration_error']:.3f}"],
    ]
    text = f"Measured on {counted(count, 'image')} of the training folder, held out of training."
    return _section("Validation", text + _doubts(found), ["measure", "value (95% interval)"], rows)


def _doubts(found: dict[str, Any]) -> str:
    return "".join(f" {doubt[0].upper()}{doubt[1:]}." for doubt in doubts(found))


def _findings(found: dict[str, Any]) -> Section:
    rows = [
        [
            name,
            one["present"],
            one["absent"],
            figure_with_interval(one, "auc"),
            with_interval(one["at_half"]["sensitivity"], one["sensitivity_interval"]),
            with_interval(one["at_half"]["specificity"], one["specificity_interval"]),
        ]
        for name, one in found["by_class"].items()
    ]
    rows.append(
        [
            "mean",
            "",
            "",
            figure_with_interval(found, "auc"),
            f"{found['sensitivity']:.3f}",
            f"{found['specificity']:.3f}",
        ]
    )
    text = (
        f"Measured on {found['images_in_all']} images of the training data that were held out of training, "
        "each finding on those on which it is known; 95% intervals." + _doubts(found)
    )
    head = [
        "finding",
        "with it",
        "without",
        "area under the ROC curve",
        "sensitivity at 0.5",
        "specificity at 0.5",
    ]
    return _section("Validation", text, head, rows)


def _data(training: dict[str, Any]) -> Section | None:
    found = training.get("data")
    if not found:
        return None
    rows = [
        [name, count, found["training"].get(name, 0), found["validation"].get(name, 0)]
        for name, count in found["images"].items()
    ]
    text = (
        f"Trained on the folder {found['name']}. Hospitals, devices, ages and diseases that are not in it "
        "are outside of what the network has seen."
    )
    return _section("Training data", text, ["class", "images", "training", "validation"], rows)


def _cross_validation(training: dict[str, Any]) -> Section | None:
    found = training.get("cross_validation", {}).get(training["recipe"]["name"])
    if not found:
        return None
    rows = [["as they are", figure_with_interval(found["pooled"], "auc")]]
    for source, one in found.get("by_source", {}).items():
        rows.append([f"of {source}, mean of the folds", figure_with_interval(one, "auc")])
    changed = found.get("pooled_auc_on_changed_copies", {})
    rows += [[name, f"{auc:.3f}"] for name, auc in changed.items()]
    text = "Every image judged by a network that has not seen it"
    text += ", as it is and after changes to the image." if changed else "."
    head = ["held-out images", "area under the ROC curve"]
    return _section("Cross-validation and robustness", text, head, rows)


def _faithfulness(training: dict[str, Any]) -> Section | None:
    ranking = training.get("ranking")
    if not ranking:
        return None
    rows = []
    for row in (*ranking["pairs"], *ranking["baselines"]):
        mean = row["faithfulness"]["faithfulness"]
        value = f"{mean['value']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})"
        rows.append([f"{row['layer']} {row['method']}".strip(), "{} x {}".format(*row["resolution"]), value])
    text = (
        f"What the score loses when the hottest places are taken away rather than the coldest, on "
        f"{ranking['images']} validation images (95% intervals). A map that does not beat the baselines, "
        "the last rows, says nothing about the model."
    )
    return _section("Faithfulness of the heatmaps", text, ["layer and method", "map", "faithfulness"], rows)


def _occlusion(training: dict[str, Any]) -> Section | None:
    found = training.get("reliance")
    if not found:
        return None
    places = list(found[0]["hidden"])
    rows = [
        [one["class_name"], one["images"], *(f"{one['hidden'][place]['lost']:.0%}" for place in places)]
        for one in found
    ]
    text = (
        "How much of the predicted class's lead over the others is lost when a place is hidden. Where "
        "corners or border count for much, the model looks at side markers or film edges."
    )
    return _section("Occlusion", text, ["predicted class", "images", *(f"without {p}" for p in places)], rows)
