"""What a training finds out about the maps of the model it made: the best layer and method, repeatability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worker.errors import XraycamError
from worker.explain.explainer import Explainer
from worker.images.preprocess import Pixels, preprocess
from worker.map_evaluation.faithfulness import TWO_PLACES
from worker.map_evaluation.occlusion import occlusion_sensitivity
from worker.map_evaluation.ranking import rank
from worker.map_evaluation.reports import Ranking
from worker.map_evaluation.similarity import similarity
from worker.model.metadata import ModelMetadata, Preprocessing, Weights
from worker.model.network import load_model, spatial_layers
from worker.train.dataset import LabelledDataset
from worker.train.heat_scale import heat_scales
from worker.train.recipe import Recipe

IMAGES = 24
# Those of which the scale of a version's heat is taken.
SCALE_IMAGES = 64
# What the ranking may cost a training; on two cores it takes about a minute.
SECONDS = 180.0


@dataclass(frozen=True)
class CamEvaluation:
    """The best layer and method, and what goes into the version's record, in JSON's types: `ranking`, see
    `Ranking`; `reliance`, a list, see `OcclusionReport`; and `repeatability`, the similarity to the
    maps of the version served so far, where there is one to compare with. `heat_scales`: how hot the maps
    get, by layer and method."""

    layer: str
    method: str
    figures: dict[str, Any]
    heat_scales: dict[str, float] = field(default_factory=dict)


def evaluate_cams(
    network: Any,
    dataset: LabelledDataset,
    indices: Sequence[int],
    recipe: Recipe,
    *,
    version: str,
    positive_class: str | None = None,
    before: Path | None = None,
    images: int = IMAGES,
    seconds: float = SECONDS,
    progress: Callable[[int, int], object] = lambda _done, _of: None,
) -> CamEvaluation:
    """Rank layers and methods of `network` on up to `images` of the images at `indices`, which it has not
    learned from, of each class as many as of the others as far as they last, within about `seconds`.

    `before` is the folder of the version served so far. `progress` is told how many images are ranked.
    """
    chosen = _balanced(dataset, indices, images)
    metadata = unsaved_metadata(network, dataset.classes, recipe, version, positive_class, dataset.output)
    pixels = _pixels(dataset, chosen, recipe.preprocessing)
    ranking = rank(
        metadata, network, pixels, seconds=seconds, shares=TWO_PLACES, halve=True, progress=progress
    )
    figures: dict[str, Any] = {
        "ranking": ranking.model_dump(mode="json"),
        "reliance": _occlusion(metadata, network, pixels),
    }
    repeated = None if before is None else _repeatability(network, dataset, chosen, metadata, ranking, before)
    if repeated is not None:
        figures["repeatability"] = repeated
    more = _balanced(dataset, indices, SCALE_IMAGES)
    scales = heat_scales(metadata, network, _pixels(dataset, more, recipe.preprocessing))
    return CamEvaluation(ranking.best.layer, ranking.best.method, figures, scales)


def measure_occlusion(
    metadata: ModelMetadata,
    network: Any,
    dataset: LabelledDataset,
    indices: Sequence[int],
    images: int = IMAGES,
) -> list[dict[str, Any]]:
    """The `reliance` that `evaluate_cams` measures, alone: an `OcclusionReport` in JSON's types per class."""
    chosen = _balanced(dataset, indices, images)
    return _occlusion(metadata, network, _pixels(dataset, chosen, metadata.preprocessing))


def unsaved_metadata(
    network: Any,
    classes: Sequence[str],
    recipe: Recipe,
    version: str = "unsaved",
    positive_class: str | None = None,
    output: Literal["softmax", "sigmoid"] = "softmax",
) -> ModelMetadata:
    """What an `Explainer` must know of a network that is in no folder yet."""
    layers = spatial_layers(network, recipe.architecture)
    return ModelMetadata(
        version=version,
        architecture=recipe.architecture,
        alpha=recipe.alpha,
        output=output,
        classes=tuple(classes),
        positive_class=positive_class,
        preprocessing=recipe.preprocessing,
        head=recipe.head,
        layers=layers,
        default_layer=layers[-1].name,
        weights=Weights(sha256="0" * 64),
        created="not yet",
    )


def _repeatability(
    network: Any,
    dataset: LabelledDataset,
    chosen: Sequence[int],
    metadata: ModelMetadata,
    ranking: Ranking,
    before: Path,
) -> dict[str, Any] | None:
    """Similarity of the maps of both versions, at the new one's best layer and method, of the classes that
    the images have; None where the versions cannot be compared."""
    try:
        other, other_network = load_model(before)
        # With other margins the two see other parts of the picture: a place of one map is none of the other.
        if _compared(other) != _compared(metadata):
            return None
        other.require_layer(ranking.best.layer)
    except XraycamError:
        return None
    # Of an image without findings, the first finding's map.
    targets = [(dataset.names_of(index) or [0])[0] for index in chosen]
    maps = []
    for one, weights in ((metadata, network), (other, other_network)):
        explainer = Explainer(one, weights, [ranking.best.layer], ranking.best.method)
        found = explainer.explain(_pixels(dataset, chosen, one.preprocessing), targets)
        maps.append(found.heatmaps[ranking.best.layer])
    return {
        "with": other.version,
        "layer": ranking.best.layer,
        "method": ranking.best.method,
        **similarity(*maps).model_dump(mode="json"),
    }


def _compared(metadata: ModelMetadata) -> tuple[Any, ...]:
    return metadata.classes, metadata.output, metadata.preprocessing.margin


def _occlusion(metadata: ModelMetadata, network: Any, pixels: Pixels) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json") for one in occlusion_sensitivity(metadata, network, pixels)]


def _balanced(dataset: LabelledDataset, indices: Sequence[int], count: int) -> list[int]:
    by_class = [dataset.members(label, indices) for label in range(len(dataset.classes))]
    by_class.append([index for index in indices if not dataset.names_of(index)])
    turns = [index for row in zip_longest(*by_class) for index in row if index is not None]
    return list(dict.fromkeys(turns))[:count]


def _pixels(dataset: LabelledDataset, chosen: Sequence[int], preprocessing: Preprocessing) -> Pixels:
    return np.stack([preprocess(dataset.radiograph(index), preprocessing) for index in chosen])
