"""MODEL_CARD.md and the record behind it: recipe, data and metrics of a version, as measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from worker.interval_words import figure_with_interval, of_class, with_interval
from worker.map_evaluation.reports import BLANK_ALLOWED
from worker.model.architectures import ARCHITECTURES
from worker.model.doubts import doubts
from worker.model.earlier_words import said_of_earlier
from worker.model.metadata import ModelMetadata
from worker.train.cross_validation_card import in_cross_validation
from worker.train.dataset import LabelledDataset
from worker.train.earlier_training import EarlierTraining
from worker.train.findings_card import validation_of_findings
from worker.train.held_out import pack_digests
from worker.train.metrics import Metrics
from worker.train.recipe import Recipe
from worker.train.splits import Split


def training_record(
    dataset: LabelledDataset,
    train_val_split: Split,
    recipe: Recipe,
    *,
    source: Sequence[str] = (),
    started_from: str,
    history: Sequence[dict[str, Any]],
    best_epoch: int,
    validation: Metrics,
    earlier: EarlierTraining | None = None,
) -> dict[str, Any]:
    """The `training` field of a model's metadata, in JSON's types. `source`: lines that say where the images
    are from and whom to cite, as given to the training. `earlier`: of the version that it started from, whose
    images are then among those that this one was trained on."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "data": {
            "name": dataset.root.resolve().name,
            "digest": dataset.digest,
            "images": dataset.counts(),
            "training": dataset.counts(train_val_split.training),
            "validation": dataset.counts(train_val_split.validation),
            **_sizes(dataset, train_val_split),
            "skipped": len(dataset.skipped),
            "skipped_by_reason": dict(sorted(Counter(item.reason for item in dataset.skipped).items())),
            "passed_over": list(dataset.passed_over),
            **({} if earlier is None else {"earlier": earlier.record}),
        },
        "source": list(source),
        "training_images": pack_digests(
            (dataset.sha256[index] for index in train_val_split.training),
            None if earlier is None else earlier.images,
        ),
        "started_from": started_from,
        "epochs": len(history),
        "best_epoch": best_epoch,
        "last_epoch": dict(history[-1]),
        "validation": validation.model_dump(mode="json"),
    }


def _sizes(dataset: LabelledDataset, parts: Split) -> dict[str, int]:
    """How many images the parts have, where counts by finding do not add up to that."""
    if dataset.findings is None:
        return {}
    return {"training_images": len(parts.training), "validation_images": len(parts.validation)}


_PREAMBLE = """\
**Research use. Not a medical device.** It must not be used to diagnose, to triage or to treat. A heatmap says
where the score came from, not where the disease is.
"""


def model_card(metadata: ModelMetadata) -> str:
    """The card of a version as Markdown, from its `training` record."""
    training = metadata.training
    parts = [
        f"# Model card: {metadata.version}",
        _PREAMBLE,
        _network(metadata),
        "## Data",
        _data(training["data"]),
        _findings(training.get("findings")),
        "## Figures on the validation part",
        _validation(training["validation"]),
        *_operating_points(metadata),
        *in_cross_validation(training.get("cross_validation", {}), training["recipe"]["name"], _table),
        *_maps(metadata),
        *_input_check(metadata),
        "## Recipe",
        _recipe(training),
        "## Limits",
        _limits(metadata),
        "## Sources",
        _sources(training.get("source", []), metadata.architecture),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _network(metadata: ModelMetadata) -> str:
    side = metadata.preprocessing.size
    kind = "classes" if metadata.output == "softmax" else "findings, which do not exclude each other:"
    return (
        f"{_architecture(metadata)} with global average pooling and a head of "
        f"{metadata.head.units} units; input {side} x {side} pixels, gray; {kind} "
        f"{_listed(metadata.classes)}. Made {metadata.created}, starting from "
        f"{metadata.training['started_from']}. Weights: SHA-256 `{metadata.weights.sha256}`."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _architecture(metadata: ModelMetadata) -> str:
    known = ARCHITECTURES[metadata.architecture]
    return known.constructor + (f" (alpha {metadata.alpha})" if known.has_alpha else "")


def _data(data: dict[str, Any]) -> str:
    rows = [
        [name, *(data[part][name] for part in ("images", "training", "validation"))]
        for name in data["images"]
    ]
    reasons = ", ".join(f"{count} {reason}" for reason, count in data.get("skipped_by_reason", {}).items())
    left_out = f"{data['skipped']} {'file' if data['skipped'] == 1 else 'files'} left out"
    said = said_of_earlier(data.get("earlier"))
    return (
        f"`{data['name']}`, digest `{data['digest'][:16]}`; {left_out}{reasons and f' ({reasons})'}.\n\n"
        + _table([_kind(data), "images", "training", "validation"], rows)
        + (f"\n\n{said[0].upper()}{said[1:]}." if said else "")
    )


def _kind(data: dict[str, Any]) -> str:
    return "finding, images that have it" if "training_images" in data else "class"


def _validation(figures: dict[str, Any]) -> str:
    if figures.get("output") == "sigmoid":
        return validation_of_findings(figures, _table)
    of = of_class(figures)
    rows = [
        ["AUC (95% interval)", figure_with_interval(figures, "auc")],
        [f"sensitivity{of} at 0.5", figure_with_interval(figures, "sensitivity")],
        [f"specificity{of} at 0.5", figure_with_interval(figures, "specificity")],
        [f"specificity{of} at 90% sensitivity", f"{figures['specificity_at_sensitivity_90']:.3f}"],
        ["accuracy", figure_with_interval(figures, "accuracy")],
        ["Brier score", f"{figures['brier']:.3f}"],
        ["Brier score, calibrated", f"{figures['brier_with_temperature']:.3f}"],
        ["calibration error, calibrated", f"{figures['expected_calibration_error']:.3f}"],
        ["temperature that calibrates the probabilities", f"{figures['temperature']:.2f}"],
    ]
    return _table(["figure", "value"], rows)


def _operating_points(metadata: ModelMetadata) -> list[str]:
    if not metadata.operating_points:
        return []

    rows = [
        [
            point.name.replace("-", " ") + "%",
            with_interval(point.threshold, point.threshold_interval, 1),
            with_interval(point.sensitivity, point.sensitivity_interval),
            with_interval(point.specificity, point.specificity_interval),
        ]
        for point in metadata.operating_points
    ]
    first = metadata.operating_points[0]
    text = (
        f"The score, 0 to 100, is the calibrated probability of {metadata.positive_class}. Thresholds on it, "
        f"chosen and measured on {first.positive_images} positive and {first.negative_images} negative "
        "validation images (95% intervals). Elsewhere they differ: `xraycam calibrate` makes one there."
    )
    return ["## Operating points", text, _table(["for", "threshold", "sensitivity", "specificity"], rows)]


def _findings(found: dict[str, Any] | None) -> str:
    if found is None:
        return "Marked areas: none; only the labels were learned."
    return (
        f"Findings: `{found['file']}` marks them in {found['images']} images. In training the network "
        "learned to find them beside the class; the part that did so is not in the model, which gets the "
        "image alone."
    )


def _maps(metadata: ModelMetadata) -> list[str]:
    """How far its maps can be believed, where the training measured it."""
    training = metadata.training
    if "ranking" not in training:
        return []
    ranking = training["ranking"]
    # The less faithful pairs may have been measured on the first images alone.
    halved = any(row.get("images") for row in ranking["pairs"])
    rows = []
    for row in (*ranking["pairs"], *ranking["baselines"]):
        mean = row["faithfulness"]["faithfulness"]
        rows.append(
            [
                f"`{row['layer']}` {row['method']}".strip(),
                "{} x {}".format(*row["resolution"]),
                f"{mean['value']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})",
                row["blank"],
                *([row.get("images") or ranking["images"]] if halved else []),
            ]
        )
    parts = [
        "## Heatmaps",
        f"{_default_chosen(metadata)} Faithfulness is what the score loses when the hottest "
        "places are taken away rather than the coldest, in units of the score (insertion, deletion and ROAD, "
        "averaged; 95% intervals). A map that does not beat the last two rows says nothing.",
        _table(["layer and method", "map", "faithfulness", "blank", *(["images"] if halved else [])], rows),
    ]
    # Empty where no image had a finding at 0.5 or more.
    if training["reliance"]:
        parts += [
            _table(
                [
                    "predicted class" if metadata.output == "softmax" else "finding",
                    "images",
                    *(f"without {place}" for place in _hidden(training["reliance"])),
                ],
                [
                    [one["class_name"], one["images"], *(f"{h['lost']:.0%}" for h in one["hidden"].values())]
                    for one in training["reliance"]
                ],
            ),
            "The second table: how much of what the predicted class is ahead by is lost when a place is "
            "hidden. Where corners or border count for much, the network looks at markers or film edges.",
        ]
    if "repeatability" in training:
        found = training["repeatability"]
        parts.append(
            f"Maps of the same images by the version before, {found['with']}: rank correlation "
            f"{found['spearman']['value']:.2f}, structural similarity {found['ssim']['value']:.2f}."
        )
    return parts


def _hidden(reports: list[dict[str, Any]]) -> list[str]:
    """The places that were hidden; a model of findings may see none in any image."""
    return list(reports[0]["hidden"]) if reports else []


def _default_chosen(metadata: ModelMetadata) -> str:
    """Why the default layer and method are the default, in agreement with the table of the ranking."""
    ranking = metadata.training["ranking"]
    pairs = ranking["pairs"]
    chosen = (metadata.default_layer, metadata.default_method)
    place = next((n for n, pair in enumerate(pairs) if (pair["layer"], pair["method"]) == chosen), None)
    default = f"The default is `{chosen[0]}` with {chosen[1]}"
    measured = f"measured on {ranking['images']} validation images"
    if place is None:
        return f"{default}, which is not among those {measured}."
    if place == 0:
        return f"{default}: the most faithful of those {measured}."
    before = pairs[:place]
    if all(pair["blank"] > BLANK_ALLOWED * (pair.get("images") or ranking["images"]) for pair in before):
        names = ", ".join(f"`{pair['layer']}` {pair['method']}" for pair in before)
        return (
            f"{default}: of those {measured}, the most faithful that leaves at most {BLANK_ALLOWED:.0%} "
            f"of the images without a map. More faithful but blank more often: {names}."
        )
    return f"{default}, number {place + 1} by faithfulness of those {measured}."


def _input_check(metadata: ModelMetadata) -> list[str]:
    """What the version's check of its input finds, and where it was measured."""
    record = metadata.input_check
    if record is None:
        return []
    figures = record.figures
    rows = [
        [name, found["images"], found["flagged"], found["right"]] for name, found in figures["kinds"].items()
    ]
    limits = ", ".join(f"{word} {limit:.2f}" for word, limit in record.thresholds.items())
    parts = [
        "## Check of the input",
        "Each image is checked for being a radiograph of the chest, upright, not inverted, not mirrored, by "
        f"linear heads on activations of `{record.layer}`, and for being like the training images. Learned "
        f"from {figures['training_images']} training images, their changed copies and drawn pictures; "
        f"measured on copies of {figures['validation_images']} validation images and on other drawn "
        "pictures. "
        "'changed': other exposures and frames, as other hospitals may have them. "
        f"Operating point (logits; for unlike-training a distance): {limits}.",
        _table(["images", "number", "something said", "the right thing said"], rows),
    ]
    if "elsewhere" in figures:
        rows = [
            [name, found["images"], found["flagged"], found["right"]]
            for name, found in figures["elsewhere"].items()
        ]
        parts += [
            "On pictures from elsewhere, which are in no training:",
            _table(["images", "number", "something said", "the right thing said"], rows),
        ]
    return parts


def _limits(metadata: ModelMetadata) -> str:
    training = metadata.training
    data = training["data"]
    checked = "what the check of the input finds is said beside it" if metadata.input_check else "unchecked"
    learned, held_out = (
        data.get(f"{part}_images", sum(data[part].values())) for part in ("training", "validation")
    )
    says = "one of its classes" if metadata.output == "softmax" else "a probability of each finding"
    return (
        f"- Trained on {learned} images of `{data['name']}`, and measured on {held_out} others of the same "
        "folder.\n  Hospitals, devices, projections, ages and diseases that are not in it are outside "
        "of what the network\n  has seen; expect lower figures there, and measure: `xraycam evaluate`.\n"
        f"- It says {says} for every image, also for one that is not a chest radiograph;\n"
        f"  {checked}.\n"
        "- What gives a class away in the training images without being disease (markers, film borders, "
        "devices) may\n  have been learned. Look at where the heat falls before believing a figure.\n"
        f"- {held_out} validation images leave the figures uncertain; see the intervals."
        + "".join(f"\n- On the validation images: {doubt}." for doubt in doubts(training["validation"]))
    )


def _sources(given: Sequence[str], architecture: str) -> str:
    lines = [f"- {line}" for line in given] or [
        "- Images: the source was not given to the training (`--source`)."
    ]
    return "\n".join([*lines, f"- {ARCHITECTURES[architecture].sources}"])


def _recipe(training: dict[str, Any]) -> str:
    recipe = training["recipe"]
    return (
        f"`{recipe['name']}`, {training['epochs']} epochs, seed {recipe['seed']}, weights of epoch "
        f"{training['best_epoch']}. Every number is in `model.json` under `training.recipe`."
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
