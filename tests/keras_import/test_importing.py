"""An imported model gives the probabilities and the maps of the Keras model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.keras_import.conftest import MODELS, L, pooled
from worker.errors import ModelError
from worker.explain.explainer import Explainer
from worker.explain.forward import scale
from worker.keras_import.preprocessing import SCALES, preprocessing_from
from worker.model.importing import import_keras
from worker.model.metadata import ModelMetadata
from worker.model.network import load_model

pytestmark = pytest.mark.slow

CLASSES = ("Normal", "Tuberculosis", "Other")


def images(size: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", list(MODELS))
def test_probabilities_are_those_of_predict(name: str, ending: str, keras_file: Any, tmp_path: Path) -> None:
    path, model = keras_file(name, ending)
    _, classes, said, output = MODELS[name]
    fields = preprocessing_from(f"scale={said},size=32")
    import_keras(path, tmp_path / "m", version="m", classes=CLASSES[:classes], preprocessing=fields)
    metadata, network = load_model(tmp_path / "m")
    assert metadata.output == output
    pixels = images(32)
    given = scale(pixels, metadata.preprocessing).numpy()[..., : model.inputs[0].shape[-1]]
    wanted = model.predict(given, verbose=0)
    if wanted.shape[1] == 1:
        wanted = np.concatenate([1 - wanted, wanted], axis=1)
    found = Explainer(metadata, network).explain(pixels)
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)
    assert np.ptp(found.scores, axis=0).max() > 1e-3, "the images differ"


@pytest.mark.parametrize("layer", ["stem_relu", "join", "leaky"])
def test_maps_are_those_of_a_gradient_tape(layer: str, keras_file: Any, tmp_path: Path) -> None:
    path, model = keras_file("as-reference", "keras")
    fields = preprocessing_from("scale=0-1")
    import_keras(path, tmp_path / "m", version="m", classes=CLASSES[:2], preprocessing=fields)
    metadata, network = load_model(tmp_path / "m")
    pixels = images(32)
    found = Explainer(metadata, network, [layer], "gradcam").explain(pixels, [1, 1, 1])
    two = keras.Model(model.input, [model.get_layer(layer).output, model.layers[-1].input])
    with tf.GradientTape() as tape:
        activation, scores = two(scale(pixels, metadata.preprocessing), training=False)
        total = tf.reduce_sum(scores[:, 1])
    weights = tf.reduce_mean(tape.gradient(total, activation), axis=(1, 2), keepdims=True)
    raw = tf.nn.relu(tf.reduce_sum(weights * activation, axis=-1)).numpy()
    wanted = raw / np.maximum(raw.max(axis=(1, 2), keepdims=True), 1e-30)
    np.testing.assert_allclose(next(iter(found.heatmaps.values())), wanted, atol=1e-5)


def test_candidates_are_ends_of_blocks(keras_file: Any, tmp_path: Path) -> None:
    path, _ = keras_file("nested", "keras")
    fields = preprocessing_from("scale=0-255")
    metadata = import_keras(path, tmp_path / "m", version="m", classes=CLASSES, preprocessing=fields)
    assert [layer.name for layer in metadata.layers if layer.is_cam_candidate] == ["join", "leaky"]
    assert metadata.default_layer == "leaky"


def test_what_is_not_said_is_asked_for(keras_file: Any, tmp_path: Path) -> None:
    any_size, _ = keras_file("one-sigmoid", "keras")
    fixed, _ = keras_file("as-reference", "keras")
    gray, _ = keras_file("sequential-gray", "keras")
    for path, classes, said, text in [
        (any_size, 2, "scale=0-1", "size=SIDE"),
        (fixed, 2, "scale=0-1,size=64", "32 x 32"),
        (fixed, 3, "scale=0-1", "2 outputs, --classes names 3"),
        (gray, 2, "scale=imagenet", "gray"),
    ]:
        fields = preprocessing_from(said)
        with pytest.raises(ModelError, match=text):
            import_keras(path, tmp_path / "m", version="m", classes=CLASSES[:classes], preprocessing=fields)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("said", [None, "", "size=100", "scale=1", "scale=0-1,size=x", "scale=0-1,scale=0-1"])
def test_preprocessing_is_never_guessed(said: str | None) -> None:
    with pytest.raises(ModelError, match="scale"):
        preprocessing_from(said)


def test_scales_by_their_words() -> None:
    assert {said: preprocessing_from(f"scale={said}")["scale"] for said in SCALES} == SCALES


def test_a_last_layer_without_activation_asks(tmp_path: Path) -> None:
    source = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(source))
    keras.Model(source, keras.layers.Dense(2)(x)).save(tmp_path / "bare.keras")
    fields = preprocessing_from("scale=0-1")
    with pytest.raises(ModelError, match="--output softmax"):
        import_keras(
            tmp_path / "bare.keras", tmp_path / "m", version="m", classes=CLASSES[:2], preprocessing=fields
        )
    metadata = import_keras(
        tmp_path / "bare.keras",
        tmp_path / "m",
        version="m",
        classes=CLASSES[:2],
        preprocessing=fields,
        output="sigmoid",
    )
    assert metadata.output == "sigmoid"


def _classifier(head: Any) -> Any:
    source = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, name="map")(source)
    return keras.Model(source, head(x))


def _imported(model: Any, folder: Path, output: Any = None) -> ModelMetadata:
    """What an import of `model`, of two classes, wrote to `folder / "m"`."""
    model.save(folder / "m.keras")
    return import_keras(
        folder / "m.keras",
        folder / "m",
        version="m",
        classes=CLASSES[:2],
        preprocessing=preprocessing_from("scale=0-1"),
        output=output,
    )


@pytest.mark.parametrize("output", [None, "softmax", "sigmoid"])
@pytest.mark.parametrize(
    "head",
    [
        lambda x: L.Average()([L.Dense(2, activation="softmax")(pooled(x)) for _ in range(2)]),
        lambda x: L.Concatenate()([L.Dense(1, activation="sigmoid")(pooled(x)) for _ in range(2)]),
        lambda x: L.Dense(2, activation="sigmoid")(pooled(x)) * 0.98 + 0.01,
        lambda x: L.GlobalMaxPooling2D()(L.Conv2D(2, 1, activation="sigmoid")(x)),
        lambda x: L.Reshape((2,))(L.Softmax()(L.Dense(2)(pooled(x)))),
        lambda x: L.BatchNormalization()(L.Dense(2, activation="softmax")(pooled(x))),
        lambda x: L.Multiply()([L.Dense(2, activation="sigmoid")(pooled(x)) for _ in range(2)]),
    ],
    ids=["ensemble", "heads", "smoothed", "pooled", "reshaped", "normed", "product"],
)
def test_probabilities_are_not_taken_for_scores(head: Any, output: Any, tmp_path: Path) -> None:
    """A sigmoid of a sigmoid is a probability of nothing: it lies between 0.5 and 0.73."""
    with pytest.raises(ModelError, match="changes the probabilities of"):
        _imported(_classifier(head), tmp_path, output=output)


@pytest.mark.parametrize(
    "head",
    [
        lambda x: L.Dense(2)(L.Dense(5, activation="sigmoid")(pooled(x))),
        lambda x: L.Multiply()([L.Dense(2)(pooled(x)), L.Dense(2, activation="sigmoid")(pooled(x))]),
        lambda x: L.Flatten()(L.AveragePooling2D(30)(L.Conv2D(2, 1)(x))),
    ],
    ids=["hidden", "gated", "flattened"],
)
def test_scores_may_come_of_a_sigmoid_inside(head: Any, tmp_path: Path) -> None:
    model = _classifier(head)
    metadata = _imported(model, tmp_path, output="softmax")
    _, network = load_model(tmp_path / "m")
    wanted = model.predict(scale(images(32), metadata.preprocessing).numpy(), verbose=0)
    np.testing.assert_allclose(Explainer(metadata, network).explain(images(32)).scores, wanted, atol=1e-5)


def test_a_layer_used_twice_is_named(tmp_path: Path) -> None:
    source = keras.Input((32, 32, 3))
    twice = keras.layers.Conv2D(3, 3, padding="same", name="twice")
    x = keras.layers.GlobalAveragePooling2D()(twice(twice(source)))
    with pytest.raises(ModelError, match="layer twice is used 2 times"):
        _imported(keras.Model(source, keras.layers.Dense(2, activation="softmax")(x)), tmp_path)


def test_classes_of_a_sigmoid_exclude_each_other_where_one_is_of_no_finding(
    keras_file: Any, tmp_path: Path
) -> None:
    path, _ = keras_file("as-reference", "keras")
    fields = preprocessing_from("scale=0-1")

    def made(name: str, classes: tuple[str, ...], findings: bool | None = None) -> Any:
        return import_keras(
            path, tmp_path / name, version=name, classes=classes, preprocessing=fields, findings=findings
        )

    assert not made("a", ("Normal", "Tuberculosis")).has_findings
    assert made("b", ("Nodule", "Effusion")).has_findings
    assert not made("c", ("Nodule", "Effusion"), findings=False).has_findings
    with pytest.raises(ModelError, match="Normal is that of images without a finding"):
        made("d", ("Normal", "Tuberculosis"), findings=True)
    softmax, _ = keras_file("calculations", "keras")
    with pytest.raises(ModelError, match="leave --findings out"):
        import_keras(
            softmax,
            tmp_path / "e",
            version="e",
            classes=("a", "b"),
            preprocessing=preprocessing_from("scale=0-255"),
            findings=True,
        )


def test_what_is_written_is_what_is_loaded_again(keras_file: Any, tmp_path: Path) -> None:
    """Weights that are single numbers, such as the count of a Normalization, keep their shape."""
    path, model = keras_file("normalized", "h5")
    import_keras(
        path,
        tmp_path / "m",
        version="m",
        classes=CLASSES[:2],
        preprocessing=preprocessing_from("scale=0-1"),
    )
    _, network = load_model(tmp_path / "m")
    layer = next(one for one in network.layers if type(one).__name__ == "Normalization")
    wanted = next(one for one in model.layers if type(one).__name__ == "Normalization")
    for found, value in zip(layer.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_model_in_half_precision_is_computed_in_single_and_says_so(
    precision: str, ending: str, tmp_path: Path
) -> None:
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(precision)
        source = keras.Input((32, 32, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(source))
        model = keras.Model(source, keras.layers.Dense(2, activation="softmax", dtype="float32")(x))
    finally:
        keras.config.set_dtype_policy(before)
    model.save(tmp_path / f"half.{ending}")
    metadata = import_keras(
        tmp_path / f"half.{ending}",
        tmp_path / "m",
        version="m",
        classes=CLASSES[:2],
        preprocessing=preprocessing_from("scale=0-1"),
    )
    assert metadata.training["imported"]["half_precision"] == precision
    assert precision in (tmp_path / "m" / "MODEL_CARD.md").read_text()
    _, network = load_model(tmp_path / "m")
    for one, other in zip(network.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    pixels = scale(images(32), metadata.preprocessing).numpy()
    wanted = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(
        Explainer(metadata, network).explain(images(32)).probabilities, wanted, atol=0.02
    )
