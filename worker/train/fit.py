"""Training: staged, repeatable for the same data, recipe and machine, and able to go on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from worker.model.network import build_network
from worker.train.annotations import FindingAnnotations
from worker.train.cut import cut_network
from worker.train.dataset import LabelledDataset, Split
from worker.train.learner import Learner
from worker.train.recipe import Recipe
from worker.train.session import Epoch, Session, Supply, TrainingStopped
from worker.train.start_weights import load_start_weights
from worker.train.views import Views

__all__ = ["Epoch", "Trained", "Trainer", "TrainingStopped", "fit"]


@dataclass(frozen=True)
class Trained:
    """`network` has the weights of the epoch `kept`; `scores` float32 (V, classes) are those of the
    validation images in the order of the split. `started_from` says which weights came first."""

    network: Any
    history: tuple[Epoch, ...]
    kept: int
    scores: Any
    started_from: str


class Trainer:
    """A network with its first weights, ready to be trained on several splits of one dataset.

    What the frozen part makes of the images is computed once and shared by all of them.
    """

    def __init__(
        self,
        dataset: LabelledDataset,
        recipe: Recipe,
        *,
        init_weights: str,
        regions: FindingAnnotations | None = None,
        memory: int = 2_000_000_000,
    ) -> None:
        """Raises StartWeightsError or RecipeError when weights or recipe do not fit."""
        self.dataset, self.recipe = dataset, recipe
        keras.utils.set_random_seed(recipe.seed)
        tf.config.experimental.enable_op_determinism()
        self.network = build_network(
            recipe.preprocessing.size, len(dataset.classes), recipe.head, recipe.alpha
        )
        self.started_from = load_start_weights(self.network, init_weights, alpha=recipe.alpha)
        self.regions = regions if recipe.region_loss else None
        layers = recipe.region_layers if self.regions else ()
        self._cut = cut_network(self.network, recipe.frozen_through, layers)
        self._views = Views(dataset, recipe, self._cut.front, memory, self.regions)
        self._first = Learner(self._cut, recipe).weights()

    def fit(
        self,
        split: Split,
        *,
        progress: Callable[[Epoch], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Train from the first weights, or from `checkpoint` if that file exists."""
        learner = Learner(self._cut, self.recipe)
        learner.begin(self._first)
        session = Session(
            self.recipe,
            learner,
            Supply(np.array(self.dataset.labels), len(self.dataset.classes), self._views),
            split,
            progress=progress,
            should_stop=should_stop,
            checkpoint=checkpoint,
            fingerprint=self.fingerprint(split),
        )
        learner.set_weights(session.run())
        return Trained(
            network=self.network,
            history=tuple(Epoch(**epoch) for epoch in session.position.history),
            kept=session.position.best_epoch or len(session.position.history),
            scores=learner.scores(session.validation),
            started_from=self.started_from,
        )

    def fingerprint(self, split: Split) -> str:
        """Equal for two trainings only if they would give the same result."""
        digest = hashlib.sha256(self.recipe.model_dump_json().encode())
        digest.update(
            f"{self.dataset.digest} {split.training} {self.regions and self.regions.digest}".encode()
        )
        for array in self._first:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def fit(
    dataset: LabelledDataset,
    split: Split,
    recipe: Recipe,
    *,
    init_weights: str,
    regions: FindingAnnotations | None = None,
    progress: Callable[[Epoch], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint: Path | None = None,
    memory: int = 2_000_000_000,
) -> Trained:
    """Train one network on one split.

    `progress` is called after each epoch; `should_stop` is asked before each batch and ends the training
    with TrainingStopped. `regions` marks findings, which the network then learns to find beside the class, if
    the recipe says so. `checkpoint` is written after each epoch and, if it exists, gone on from.
    `memory` (bytes) bounds what is kept of the frozen part's output.
    """
    trainer = Trainer(dataset, recipe, init_weights=init_weights, regions=regions, memory=memory)
    return trainer.fit(split, progress=progress, should_stop=should_stop, checkpoint=checkpoint)
