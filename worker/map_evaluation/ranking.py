"""Which layer and method of a model say best where its scores come from, beside baseline maps."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from worker.explain.explainer import Explainer
from worker.images.preprocess import Pixels
from worker.map_evaluation.curves import Curves
from worker.map_evaluation.faithfulness import TENTHS, FaithfulnessTest, Shares
from worker.map_evaluation.localisation import Localisation, localisation
from worker.map_evaluation.reports import BLANK_ALLOWED, Ranked, Ranking
from worker.map_evaluation.sample import UNKNOWN, Sample
from worker.model.metadata import ModelMetadata

Maps = np.ndarray[Any, np.dtype[np.float32]]

RANDOM, BLOB = "random map", "centred blob"
_CELLS = 7  # the resolution of a network's last layers
_BLOB_CELLS = 28
_BLOB_WIDTH = 0.2  # standard deviation, as a share of the side


def random_maps(count: int, seed: int = 0) -> Maps:
    """`count` maps of independent uniform cells, float32 (count, 7, 7), as coarse as those of last layers."""
    return np.random.default_rng(seed).random((count, _CELLS, _CELLS), np.float32)


def centred_blobs(count: int) -> Maps:
    """The same Gaussian in the middle of the picture `count` times, float32 (count, 28, 28)."""
    places = (np.arange(_BLOB_CELLS) + 0.5) / _BLOB_CELLS - 0.5
    profile = np.exp(-0.5 * (places / _BLOB_WIDTH) ** 2)
    blob = np.outer(profile, profile)
    return np.repeat((blob / blob.max()).astype(np.float32)[np.newaxis], count, axis=0)


def baseline_maps(count: int) -> dict[str, Maps]:
    """Both, by name."""
    return {RANDOM: random_maps(count), BLOB: centred_blobs(count)}


# What is compared unless told: 12 pairs.
METHODS = ("gradcam", "layercam")
LAYERS = 6

_AT_ONCE = 8


def layers_to_rank(metadata: ModelMetadata) -> tuple[str, ...]:
    """The outputs of the last six blocks that suit class activation maps; without any, of the last layers."""
    names = {layer.name for layer in metadata.layers}
    suiting = [layer.name for layer in metadata.layers if layer.is_cam_candidate]
    # Where a block adds its input to what it computed, the sum is its output.
    ends = [name for name in suiting if name.replace("_project_BN", "_add") not in names - {name}]
    return tuple((ends or [layer.name for layer in metadata.layers])[-LAYERS:])


def rank(
    metadata: ModelMetadata,
    network: Any,
    pixels: Pixels,
    *,
    layers: Sequence[str] = (),
    methods: Sequence[str] = METHODS,
    marked: Sample | None = None,
    seconds: float = math.inf,
    shares: Shares = TENTHS,
    halve: bool = False,
    progress: Callable[[int, int], object] = lambda _done, _of: None,
) -> Ranking:
    """Rank all pairs of `layers` and `methods` on `pixels`, uint8 (N, size, size).

    `marked` adds localisation on its images, all of which have an area. After `seconds` no further images
    are taken, but for the first eight. `shares`: at how many shares of the picture the curves are looked at.
    `halve`: on images after the first eight, measure the more faithful half of the pairs alone (sequential
    halving, Karnin et al. 2013, "Almost Optimal Exploration in Multi-Armed Bandits"); the others come after
    them, with the images they were measured on.
    `progress` is told how many images are done, of how many. Raises ModelError and XraycamError as
    `Explainer` does.
    """
    started = time.monotonic()
    explainer = Explainer(metadata, network, layers or layers_to_rank(metadata), methods)
    test = FaithfulnessTest(network, metadata.preprocessing, shares)
    knowing_nothing = baseline_maps(len(pixels))
    curves: dict[str, list[Curves]] = defaultdict(list)
    blank: dict[str, int] = defaultdict(int)
    measured = {panel.name for panel in explainer.panels} | set(knowing_nothing)
    done = 0
    while done < len(pixels):
        part = slice(done, done + _AT_ONCE)
        explanation = explainer.explain(pixels[part])
        maps = {**explanation.heatmaps, **{name: all_[part] for name, all_ in knowing_nothing.items()}}
        maps = {name: found for name, found in maps.items() if name in measured}
        for name, found in test.curves(pixels[part], explanation.target_index, maps).items():
            curves[name].append(found)
        for name, maxima in explanation.maxima.items():
            blank[name] += int((maxima <= 0).sum()) if name in measured else 0
        if halve and done == 0:
            measured = _better_half(curves, blank, knowing_nothing)
        done = min(done + _AT_ONCE, len(pixels))
        progress(done, len(pixels))
        spent = time.monotonic() - started
        if spent * (1 + _AT_ONCE / done) > seconds:
            break
    located = {} if marked is None else _located(explainer, marked)
    summaries = {name: _joined(parts).summary() for name, parts in curves.items()}
    pairs = [
        Ranked(
            layer=panel.layer,
            method=panel.method.name,
            resolution=_resolution(metadata, panel.layer),
            faithfulness=summaries[panel.name],
            blank=blank[panel.name],
            images=None if panel.name in measured else _AT_ONCE,
            localisation=located.get(panel.name),
        )
        for panel in explainer.panels
    ]
    baselines = [
        Ranked(
            layer=name,
            method="",
            resolution=(maps.shape[1], maps.shape[2]),
            faithfulness=summaries[name],
            blank=0,
            localisation=located.get(name),
        )
        for name, maps in knowing_nothing.items()
    ]
    return Ranking(
        model=metadata.version,
        images=done,
        marked_images=0 if marked is None else len(marked),
        seconds=round(time.monotonic() - started, 1),
        pairs=tuple(sorted(pairs, key=lambda pair: (pair.images is not None, -_faithfulness(pair)))),
        baselines=tuple(baselines),
    )


def _faithfulness(pair: Ranked) -> float:
    return pair.faithfulness.faithfulness.value


def _better_half(
    curves: dict[str, list[Curves]], blank: dict[str, int], baselines: Collection[str]
) -> set[str]:
    """Of the pairs measured so far the more faithful half, those that are blank too often last; and
    baselines."""

    def order(name: str) -> tuple[bool, float]:
        found = _joined(curves[name])
        often = blank[name] > BLANK_ALLOWED * len(found.insertion)
        return often, -float(found.faithfulness.mean())

    pairs = sorted(curves.keys() - set(baselines), key=order)
    return {*pairs[: -(-len(pairs) // 2)], *baselines}


def _joined(parts: list[Curves]) -> Curves:
    return Curves(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))


def _located(explainer: Explainer, marked: Sample) -> dict[str, Localisation]:
    areas = [area for area in marked.areas if area is not None]
    targets = np.array([label if label != UNKNOWN else -1 for label in marked.labels], np.int32)
    maps: dict[str, list[Any]] = defaultdict(list)
    for start in range(0, len(marked), 16):
        part = slice(start, start + 16)
        for name, found in explainer.explain(marked.pixels[part], targets[part]).heatmaps.items():
            maps[name].extend(found)
    maps.update({name: list(found) for name, found in baseline_maps(len(marked)).items()})
    return {name: localisation(np.stack(found), areas) for name, found in maps.items()}


def _resolution(metadata: ModelMetadata, name: str) -> tuple[int, int]:
    layer = metadata.require_layer(name)
    return layer.height, layer.width
