"""What makes a training of a few images short: a network of few operations, and less measured of its maps.

Most of its time goes into tracing the network, once for each layer whose maps are ranked, and into drawing
1,200 pictures for the input check; what is tested of trainings as tasks depends on neither. Epochs last a
fifth of a second at least, so that one which is watched, or left running, does not occupy the processors.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

EPOCH_SECONDS = 0.2


def _shallow(network: Any) -> None:
    """`worker.model.network` builds the stand-in for MobileNetV2."""
    build = network.build_base

    def build_shallow(architecture: Any, size: int, alpha: float = 1.0, weights: str | None = None) -> Any:
        if architecture.constructor != "MobileNetV2" or weights is not None:
            return build(architecture, size, alpha, weights)
        return _shallow_network()((size, size, 3), False, None, alpha)

    network.build_base = build_shallow


def _shallow_network() -> Any:
    name = "shallow_network"
    if name not in sys.modules:
        # By its file: not every process has the tests in its path.
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name].shallow_network


def _one_layer(ranking: Any) -> None:
    ranking.LAYERS = 1


def _few_drawn(check_fitting: Any) -> None:
    check_fitting.DRAWN, check_fitting.VALIDATION_DRAWN = 64, 16


def _slow_epochs(callbacks: Any) -> None:
    begin = callbacks.StopWhenAsked.on_epoch_begin

    def begin_slowly(self: Any, epoch: int, logs: Any = None) -> None:
        time.sleep(EPOCH_SECONDS)
        begin(self, epoch, logs)

    callbacks.StopWhenAsked.on_epoch_begin = begin_slowly


# Module, and what is changed of it once it is imported.
CHANGES = {
    "worker.model.network": _shallow,
    "worker.map_evaluation.ranking": _one_layer,
    "worker.train.check_fitting": _few_drawn,
    "worker.train.training_callbacks": _slow_epochs,
}
