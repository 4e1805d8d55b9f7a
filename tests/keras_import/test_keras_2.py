"""Files that Keras 2 wrote: calculations on tensors, and names of layers with a slash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from tests.keras_import.conftest import L, pooled, randomised
from worker.errors import ModelError
from worker.explain.explainer import Explainer
from worker.explain.forward import scale
from worker.keras_import.preprocessing import preprocessing_from
from worker.keras_import.weights import _grouped
from worker.model.importing import import_keras
from worker.model.network import load_model

pytestmark = pytest.mark.slow


def model() -> Any:
    """MobileNetV3's hard swish, and the scaling of its input, in layers whose place calculations can take."""
    source = L.Input((32, 32, 3), name="image")
    x = L.Rescaling(1 / 127.5, name="divide")(source)
    x = L.Rescaling(1.0, offset=-1.0, name="subtract")(x)
    x = L.BatchNormalization(name="bn")(L.Conv2D(8, 3, strides=2, padding="same", name="conv")(x))
    gate = L.Rescaling(1 / 6, name="times")(L.ReLU(6.0, name="gate")(L.Rescaling(1.0, 3.0, name="plus")(x)))
    x = L.Add(name="join")([L.Multiply(name="swish")([x, gate]), x])
    return keras.Model(source, L.Dense(2, activation="softmax")(pooled(x)))


def calculation(name: str, function: str, source: str, second: Any) -> dict[str, Any]:
    """As Keras 2 writes one in an `.h5` file."""
    return {
        "class_name": "TFOpLambda",
        "config": {"name": name, "trainable": True, "dtype": "float32", "function": function},
        "name": name,
        "inbound_nodes": [[source, 0, 0, {"y": second, "name": None}]],
    }


def written(path: Path, made: Any, calculations: list[dict[str, Any]]) -> Path:
    made.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        instead = {one["name"]: one for one in calculations}
        layers = config["config"]["layers"]
        config["config"]["layers"] = [instead.get(layer["config"]["name"], layer) for layer in layers]
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
    return path


def imported(path: Path, folder: Path) -> Any:
    fields = preprocessing_from("scale=0-255")
    import_keras(path, folder, version="m", classes=("a", "b"), preprocessing=fields)
    return load_model(folder)


def test_calculations_of_keras_2(tmp_path: Path) -> None:
    made = randomised(model())
    path = written(
        tmp_path / "m.h5",
        made,
        [
            calculation("divide", "math.truediv", "image", 127.5),
            calculation("subtract", "math.subtract", "divide", 1.0),
            calculation("plus", "__operators__.add", "bn", 3.0),
            calculation("times", "math.multiply", "gate", 1 / 6),
            calculation("join", "__operators__.add", "swish", ["bn", 0, 0]),
        ],
    )
    metadata, network = imported(path, tmp_path / "m")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    wanted = made.predict(scale(pixels, metadata.preprocessing).numpy(), verbose=0)
    np.testing.assert_allclose(Explainer(metadata, network).explain(pixels).probabilities, wanted, atol=1e-5)
    assert np.ptp(wanted[:, 0]) > 1e-4


def test_a_number_first_is_taken_in_its_place(tmp_path: Path) -> None:
    source = L.Input((32, 32, 3), name="image")
    x = L.Rescaling(-1.0, offset=255.0, name="inverted")(source)
    made = keras.Model(source, L.Dense(2, activation="softmax")(pooled(L.Conv2D(4, 3)(x))))
    inverted = calculation("inverted", "math.subtract", "_CONSTANT_VALUE", ["image", 0, 0])
    inverted["inbound_nodes"][0][1:3] = [-1, 255.0]
    metadata, network = imported(written(tmp_path / "m.h5", made, [inverted]), tmp_path / "m")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    wanted = made.predict(scale(pixels, metadata.preprocessing).numpy(), verbose=0)
    np.testing.assert_allclose(Explainer(metadata, network).explain(pixels).probabilities, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "second", "says"),
    [
        ("nn.bias_add", 1.0, "nn.bias_add.*--preprocessing"),
        ("math.truediv", [127.5, 127.5], "arrays"),
        ("math.truediv", 0.0, "by 0"),
        ({"class_name": "function"}, 1.0, "which cannot be imported"),
    ],
)
def test_other_calculations_say_what_to_do(function: Any, second: Any, says: str, tmp_path: Path) -> None:
    path = written(tmp_path / "m.h5", model(), [calculation("divide", function, "image", second)])
    with pytest.raises(ModelError, match=f"layer divide.*{says}"):
        imported(path, tmp_path / "m")


def test_layers_whose_names_end_alike_keep_their_weights(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        names = ["conv1/bn/gamma:0", "conv1/bn/beta:0", "bn/gamma:0", "outer/last/kernel:0"]
        for number, name in enumerate(names):
            file[name] = np.full(2, number)
        file.attrs["weight_names"] = [name.encode() for name in names]
        found = {name: [one[0] for one in part] for name, part in _grouped(file, "densenet121").items()}
    assert found["bn"] == [2]
    assert found["conv1/bn"] == [0, 1]
    assert found["last"] == found["outer/last"] == [3]
