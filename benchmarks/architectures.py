"""What a Grad-CAM of one image costs with each architecture, beside MobileNetV2.

    python -m benchmarks.architectures --size 224

Random weights: right for time, of no use otherwise. Rounds are interleaved; figures are processor time of the
explaining alone, without reading and rendering.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from worker.explain.explainer import Explainer
from worker.model.architectures import ARCHITECTURES
from worker.model.metadata import Head, ModelMetadata, Preprocessing, Weights
from worker.model.network import build_network, spatial_layers


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    explainers = {name: _explainer(name, given.size) for name in ARCHITECTURES}
    pixels = np.random.default_rng(0).integers(0, 256, (16, given.size, given.size), dtype=np.uint8)
    for explainer in explainers.values():
        explainer.explain(pixels)
    spent: dict[str, list[float]] = {name: [] for name in explainers}
    for _ in range(given.rounds):
        for name, explainer in explainers.items():
            started = time.process_time()
            explainer.explain(pixels)
            spent[name].append((time.process_time() - started) / len(pixels) * 1000)
    of_mobilenet = statistics.median(spent["mobilenetv2"])
    print("| architecture | layer | ms of processor time an image | by MobileNetV2 |\n|---|---|---|---|")
    for name, values in spent.items():
        median = statistics.median(values)
        layer = explainers[name].metadata.default_layer
        print(f"| {name} | {layer} | {median:.1f} | {median / of_mobilenet:.1f} |")


def _explainer(name: str, size: int) -> Explainer:
    network = build_network(size, 2, Head(), architecture=name)
    layers = spatial_layers(network, name)
    metadata = ModelMetadata(
        version=name,
        architecture=name,
        classes=("Normal", "Tuberculosis"),
        preprocessing=Preprocessing(size=size, scale=ARCHITECTURES[name].scale),
        layers=layers,
        default_layer=[layer.name for layer in layers if layer.is_cam_candidate][-1],
        weights=Weights(sha256="0" * 64),
        created="now",
    )
    return Explainer(metadata, network)


if __name__ == "__main__":
    main()
