"""MODEL_CARD.md, written from what is stored with a version, not by hand. No TensorFlow here."""

from __future__ import annotations

from typing import Any

from worker.model.description import Description

_PREAMBLE = """\
**Research use. Not a medical device.** It must not be used to diagnose, to triage or to treat. A heatmap says
where the score came from, not where the disease is.
"""

_LIMITS = """\
- Trained on frontal radiographs of one source. Other hospitals, devices, projections, children and diseases
  other than those of the classes are outside of what it has seen; expect lower figures there.
- It says one of its classes for every image, also for one that is not a chest radiograph.
- What gives a class away in the training images without being disease (markers, film borders, devices) may
  have been learned. Look at where the heat falls before believing a figure.
- The validation images are few; see the intervals.
"""

_SOURCES = """\
- S. Jaeger, S. Candemir, S. Antani, Y.-X. J. Wang, P.-X. Lu, G. Thoma: Two public chest X-ray datasets for
  computer-aided screening of pulmonary diseases. Quantitative Imaging in Medicine and Surgery 4(6), 2014.
- S. Candemir, S. Jaeger, K. Palaniappan, et al.: Lung segmentation in chest radiographs using anatomical
  atlases with nonrigid registration. IEEE Transactions on Medical Imaging 33(2), 2014.
- M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen: MobileNetV2: Inverted residuals and linear
  bottlenecks. CVPR 2018.
"""


def model_card(description: Description) -> str:
    """The card of a version as Markdown, from its `training` record."""
    training = description.training
    parts = [
        f"# Model card: {description.version}",
        _PREAMBLE,
        _network(description),
        "## Data",
        _data(training["data"]),
        "## Figures on the validation part",
        _validation(training["validation"]),
        *_cross_validation(training.get("cross_validation", {})),
        "## Recipe",
        _recipe(training),
        "## Limits",
        _LIMITS,
        "## Sources",
        _SOURCES,
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _network(description: Description) -> str:
    side = description.preprocessing.size
    return (
        f"MobileNetV2 (alpha {description.alpha}) with global average pooling and a head of "
        f"{description.head.units} units; input {side} x {side} pixels, gray; classes "
        f"{' and '.join(description.classes)}. Made {description.created}, starting from "
        f"{description.training['started_from']}. Weights: SHA-256 `{description.weights.sha256}`."
    )


def _data(data: dict[str, Any]) -> str:
    rows = [
        [name, *(data[part][name] for part in ("images", "training", "validation"))]
        for name in data["images"]
    ]
    return (
        f"`{data['name']}`, digest `{data['digest'][:16]}`; {data['left_out']} files left out.\n\n"
        + _table(["class", "images", "training", "validation"], rows)
    )


def _validation(figures: dict[str, Any]) -> str:
    low, high = figures["auc_interval"]
    rows = [
        ["AUC (95% interval)", f"{figures['auc']:.3f} ({low:.3f} to {high:.3f})"],
        ["sensitivity / specificity at 0.5", f"{figures['sensitivity']:.3f} / {figures['specificity']:.3f}"],
        ["specificity at 90% sensitivity", f"{figures['specificity_at_sensitivity_90']:.3f}"],
        ["accuracy", f"{figures['accuracy']:.3f}"],
        ["Brier score", f"{figures['brier']:.3f}"],
        ["calibration error", f"{figures['calibration_error']:.3f}"],
        ["temperature that would calibrate", f"{figures['temperature']:.2f}"],
    ]
    return _table(["figure", "value"], rows)


def _cross_validation(found: dict[str, Any]) -> list[str]:
    if not found:
        return []
    rows = []
    for name, one in found.items():
        low, high = one["pooled"]["auc_interval"]
        rows.append(
            [
                name,
                f"{one['mean_auc']:.3f}",
                ", ".join(f"{auc:.3f}" for auc in one["fold_auc"]),
                f"{one['pooled']['auc']:.3f} ({low:.3f} to {high:.3f})",
                f"{one['pooled']['specificity_at_sensitivity_90']:.3f}",
            ]
        )
    head = [
        "recipe",
        "mean AUC",
        "AUC of each fold",
        "all images pooled (95%)",
        "specificity at 90% sensitivity",
    ]
    return ["## Figures in cross-validation", _table(head, rows)]


def _recipe(training: dict[str, Any]) -> str:
    recipe = training["recipe"]
    return (
        f"`{recipe['name']}`, {training['epochs']} epochs, seed {recipe['seed']}, weights of epoch "
        f"{training['kept']}. Every number is in `model.json` under `training.recipe`."
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
