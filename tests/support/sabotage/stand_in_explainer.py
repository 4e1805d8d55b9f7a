"""An accelerator that is not there: takes SABOTAGE_EXPLAINER seconds per image, and needs no TensorFlow.

Stands in for `worker.explain.explainer` where queue, ledger and files are what a test is about. The class
follows from the image's mean, so that a result belongs to its image.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from worker.explain.options import Explanation, Panel

SIDE = 7


class Explainer:
    needs_per_channel_passes = False
    every_class = False
    batch_size = None
    is_kept = True  # it has nothing to compile

    def __init__(
        self,
        description: Any,
        network: Any,
        layers: Any = (),
        methods: Any = (),
        *,
        every_class: bool = False,
        check: Any = None,
        kept: Any = None,
    ) -> None:
        self.metadata = description
        self.layers = (description.default_layer,)
        self.methods = (SimpleNamespace(name="gradcam"),)
        layer, method = self.layers[0], self.methods[0]
        self.panels = (Panel(layer, method, None, layer, f"{layer} {method.name}"),)
        self._seconds = float(os.environ["SABOTAGE_EXPLAINER"])

    def explain(self, batch: Any, targets: Any = None) -> Explanation:
        count = len(batch)
        time.sleep(count * self._seconds)
        second = batch.mean(axis=(1, 2)).astype(np.float32) / 255
        probabilities = np.stack([1 - second, second], axis=1)
        heatmap = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
        name = self.panels[0].name
        return Explanation(
            probabilities=probabilities,
            scores=np.log(probabilities + 1e-6),
            target_index=probabilities.argmax(axis=1).astype(np.int32),
            heatmaps={name: np.broadcast_to(heatmap, (count, SIDE, SIDE))},
            maxima={name: np.ones(count, np.float32)},
        )

    def warm_up(self, batch_size: int = 1) -> None:
        """Nothing is compiled."""
