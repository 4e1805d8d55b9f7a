"""Writes a small real model with random weights: `python -m tests.support.small_model FOLDER`.

Its compiled pass, of the default map, is kept in FOLDER.compiled: workers of the tests need not make it each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

from worker.explain.compiled_pass import key_of
from worker.explain.explainer import Explainer
from worker.model.metadata import Head, digest_of
from worker.model.network import build_network, load_model, save_model, spatial_layers

SIZE = 96
SEED = 7
CLASSES = ("Normal", "Tuberculosis")


def main(folder: Path) -> None:
    keras.utils.set_random_seed(SEED)
    random = np.random.default_rng(SEED)
    network = build_network(SIZE, len(CLASSES), Head(), alpha=0.35)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.gamma.assign(random.uniform(0.3, 0.6, norm.gamma.shape))
        norm.beta.assign(random.normal(0.5, 0.5, norm.beta.shape))
        norm.momentum = 0.0
    # Untrained statistics let the signal die out on its way: take those of a batch.
    coarse = random.uniform(-1, 1, (16, 6, 6, 1)).astype(np.float32)
    images = np.repeat(np.asarray(keras.ops.image.resize(coarse, (SIZE, SIZE))), 3, axis=3)
    network(images, training=True)
    save_model(
        network,
        folder,
        metadata={
            "version": folder.name,
            "alpha": 0.35,
            "classes": CLASSES,
            "preprocessing": {"size": SIZE},
            "layers": spatial_layers(network),
            "default_layer": "block_12_add",
            "created": "2025-01-01T00:00:00Z",
        },
    )
    metadata, network = load_model(folder)
    explainer = Explainer(metadata, network)
    explainer.warm_up()
    key = key_of(digest_of(folder), ((), (), False))
    assert explainer.keep(folder.with_name(f"{folder.name}.compiled") / key, network)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
