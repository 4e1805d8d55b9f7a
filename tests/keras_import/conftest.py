"""Small Keras models with random statistics, biases and all: fresh batch norms hide faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

L = keras.layers


def randomised(model: Any, seed: int = 3) -> Any:
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance", "variance"):
            variable.assign(random.uniform(0.6, 1.4, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean", "mean"):
            variable.assign(random.normal(0, 0.3, variable.shape))
    for layer in model.layers:
        if isinstance(layer, L.Normalization):
            layer.finalize_state()  # as `adapt` does: it works with copies of its statistics
    return model


def backbone(source: Any, prefix: str = "") -> Any:
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name=f"{prefix}stem")(source)
    x = L.BatchNormalization(name=f"{prefix}stem_bn")(x)
    x = L.ReLU(6.0, name=f"{prefix}stem_relu")(x)
    y = L.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{prefix}depth")(x)
    y = L.BatchNormalization(name=f"{prefix}depth_bn")(y)
    y = L.Activation("swish", name=f"{prefix}depth_act")(y)
    x = L.Add(name=f"{prefix}join")([x, y])
    x = L.SeparableConv2D(12, 3, strides=2, padding="same", name=f"{prefix}sep")(x)
    return L.LeakyReLU(0.1, name=f"{prefix}leaky")(x)


def pooled(x: Any) -> Any:
    return L.Dropout(0.5)(L.GlobalAveragePooling2D()(x))


def as_reference() -> Any:
    source = L.Input((32, 32, 3))
    x = L.BatchNormalization()(L.Dense(2)(pooled(backbone(source))))
    return keras.Model(source, L.Activation("sigmoid")(x))


def one_sigmoid() -> Any:
    source = L.Input((None, None, 3))
    return keras.Model(source, L.Dense(1, activation="sigmoid")(pooled(backbone(source))))


def nested() -> Any:
    inner_source = L.Input((32, 32, 3))
    inner = keras.Model(inner_source, backbone(inner_source), name="inner")
    source = L.Input((32, 32, 3))
    x = L.Rescaling(1 / 127.5, offset=-1)(L.RandomFlip()(source))
    return keras.Model(source, L.Softmax()(L.Dense(3)(pooled(inner(x)))))


def sequential() -> Any:
    return keras.Sequential(
        [
            L.Input((32, 32, 1)),
            L.Rescaling(1 / 255),
            L.Conv2D(6, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(8, 3, activation="relu"),
            L.Flatten(),
            L.Dense(2, activation="softmax"),
        ]
    )


def calculations() -> Any:
    source = L.Input((32, 32, 3))
    x = backbone(1.0 - source / 127.5)
    x = x * keras.ops.relu6(x + 3.0) * (1.0 / 6.0)
    return keras.Model(source, L.Dense(2, activation="softmax")(pooled(x)))


def normalized() -> Any:
    source = L.Input((32, 32, 3))
    return keras.Model(source, L.Dense(2, activation="softmax")(pooled(backbone(L.Normalization()(source)))))


def normalized_by_one_mean() -> Any:
    source = L.Input((32, 32, 3))
    x = backbone(L.Normalization(axis=None)(source))
    return keras.Model(source, L.Dense(1, activation="sigmoid")(L.Flatten()(x)))


MODELS = {
    "normalized-by-one-mean": (normalized_by_one_mean, 2, "0-1", "softmax"),
    "normalized": (normalized, 2, "0-1", "softmax"),
    "as-reference": (as_reference, 2, "0-1", "sigmoid"),
    "one-sigmoid": (one_sigmoid, 2, "imagenet", "softmax"),
    "nested": (nested, 3, "0-255", "softmax"),
    "sequential-gray": (sequential, 2, "0-255", "softmax"),
    "calculations": (calculations, 2, "0-255", "softmax"),
}


@pytest.fixture(scope="session")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(name, ending) to a saved model and the model itself."""
    made: dict[str, Any] = {}
    folder: Path = tmp_path_factory.mktemp("keras")

    def make(name: str, ending: str) -> tuple[Path, Any]:
        if name not in made:
            keras.utils.set_random_seed(5)
            made[name] = randomised(MODELS[name][0]())
        path = folder / f"{name}.{ending}"
        if not path.exists():
            made[name].save(path)
        return path, made[name]

    return make
