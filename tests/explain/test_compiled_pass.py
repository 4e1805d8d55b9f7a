"""A compiled pass that was kept gives what the network gives, bit for bit; nothing else is taken for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.explain.cam import METHODS, MethodInput
from worker.explain.compiled_pass import key_of, load_kept
from worker.explain.explainer import Explainer
from worker.images.preprocess import Pixels
from worker.model.metadata import ModelMetadata

LAYERS = ("block_12_add", "block_15_add", "out_relu")
IN_ONE_PASS = [name for name, one in METHODS.items() if one.needs is not MethodInput.MASKED_SCORES]


def no_network() -> Any:
    raise AssertionError("the network is not needed")


def kept(folder: Path, model: tuple[ModelMetadata, Any], method: str, *, every_class: bool = False) -> Path:
    metadata, network = model
    explainer = Explainer(metadata, network, LAYERS, method, every_class=every_class)
    explainer.warm_up()
    file = folder / "pass"
    assert explainer.keep(file, network)
    return file


def from_file(file: Path, metadata: ModelMetadata, weights: Path, method: str, **more: Any) -> Explainer:
    return Explainer(
        metadata, no_network, LAYERS, method, kept=lambda panels: load_kept(file, weights, panels), **more
    )


@pytest.mark.parametrize(
    ("method", "every_class"),
    [
        pytest.param(name, every, marks=[] if (name, every) == ("gradcam", False) else pytest.mark.slow)
        for name in IN_ONE_PASS
        for every in (False, True)
    ],
)
def test_a_kept_pass_gives_the_same_bits(
    method: str,
    every_class: bool,
    tmp_path: Path,
    model: tuple[ModelMetadata, Any],
    model_folder: Path,
    batch: Pixels,
) -> None:
    metadata, network = model
    file = kept(tmp_path, model, method, every_class=every_class)
    weights = model_folder / "weights.safetensors"
    again = from_file(file, metadata, weights, method, every_class=every_class)
    assert again.is_kept
    expected = Explainer(metadata, network, LAYERS, method, every_class=every_class).explain(
        batch, [-1, 0, 1, 2, -1, 1]
    )
    found = again.explain(batch, [-1, 0, 1, 2, -1, 1])
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.probabilities, expected.probabilities)
    assert np.array_equal(found.target_index, expected.target_index)
    assert list(found.heatmaps) == list(expected.heatmaps)
    for name, heatmap in expected.heatmaps.items():
        assert np.array_equal(found.heatmaps[name], heatmap)
        assert np.array_equal(found.maxima[name], expected.maxima[name])


def test_weights_are_those_of_the_file_that_is_given(
    tmp_path: Path, model: tuple[ModelMetadata, Any], model_folder: Path, batch: Pixels
) -> None:
    from safetensors.numpy import load_file, save_file

    file = kept(tmp_path, model, "gradcam")
    arrays = load_file(model_folder / "weights.safetensors")
    arrays["score/bias"] = arrays["score/bias"] + np.float32(3)
    save_file(arrays, tmp_path / "others.safetensors")
    metadata = model[0]
    one = from_file(file, metadata, model_folder / "weights.safetensors", "gradcam").explain(batch)
    other = from_file(file, metadata, tmp_path / "others.safetensors", "gradcam").explain(batch)
    assert np.allclose(other.scores, one.scores + 3, atol=1e-5)


def damaged(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def with_a_file_written(content: bytes) -> bytes:
    """The same pass with an operation that writes a file, and a checksum that fits."""
    import hashlib

    from tensorflow.core.framework import function_pb2

    _, line, rest = content.split(b"\n", 2)
    function = function_pb2.FunctionDef.FromString(rest)
    function.node_def.add(name="harm", op="WriteFile")
    rest = line + b"\n" + function.SerializeToString()
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def with_weights_exchanged(content: bytes) -> bytes:
    """Two weights of one shape in each other's place, under the old checksum."""
    digest, line, rest = content.split(b"\n", 2)
    head = json.loads(line)
    names = head["captures"]
    one, other = names.index("bn_Conv1/gamma"), names.index("bn_Conv1/beta")
    names[one], names[other] = names[other], names[one]
    return b"\n".join([digest, json.dumps(head).encode(), rest])


@pytest.mark.parametrize(
    "change",
    [damaged, with_a_file_written, with_weights_exchanged, lambda _: b"", lambda content: content[:500]],
)
def test_what_is_not_as_it_was_written_is_not_used(
    change: Any, tmp_path: Path, model: tuple[ModelMetadata, Any], model_folder: Path
) -> None:
    file = kept(tmp_path, model, "gradcam")
    weights = model_folder / "weights.safetensors"
    panels = LAYERS
    assert load_kept(file, weights, panels) is not None
    assert load_kept(file, weights, panels[:2]) is None
    file.write_bytes(change(file.read_bytes()))
    assert load_kept(file, weights, panels) is None


def linked(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def named_otherwise(file: Path) -> None:
    file.with_name("other").write_bytes(file.read_bytes())
    file.with_name("other").chmod(0o600)
    file.with_name("other").replace(file.with_name("b" * 32))


def in_a_linked_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))
    file.parent.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "change", [linked, in_a_linked_folder, lambda file: file.chmod(0o620), lambda file: file.chmod(0o602)]
)
def test_what_others_may_have_put_there_is_not_used(
    change: Any, tmp_path: Path, model: tuple[ModelMetadata, Any], model_folder: Path
) -> None:
    file = kept(tmp_path / "passes", model, "gradcam")
    weights = model_folder / "weights.safetensors"
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_kept(file, weights, LAYERS) is not None
    change(file)
    assert load_kept(file, weights, LAYERS) is None


def test_a_file_of_another_user_or_under_another_name_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: tuple[ModelMetadata, Any], model_folder: Path
) -> None:
    file = kept(tmp_path, model, "gradcam")
    weights = model_folder / "weights.safetensors"
    named_otherwise(file)
    assert load_kept(file.with_name("b" * 32), weights, LAYERS) is None
    assert load_kept(file, weights, LAYERS) is not None
    ours = os.geteuid()
    monkeypatch.setattr("worker.explain.compiled_pass.os.geteuid", lambda: ours + 1)
    assert load_kept(file, weights, LAYERS) is None


def test_nothing_is_removed_through_a_linked_folder(tmp_path: Path, model: tuple[ModelMetadata, Any]) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for number in range(20):
        (theirs / f"a{number}").touch()
    (tmp_path / "passes").symlink_to(theirs)
    metadata, network = model
    explainer = Explainer(metadata, network, LAYERS, "gradcam")
    explainer.warm_up()
    assert not explainer.keep(tmp_path / "passes" / "pass", network)
    assert len(list(theirs.iterdir())) == 20


def test_weights_are_named_as_in_their_file_whatever_keras_built_before(tmp_path: Path) -> None:
    """Keras numbers layers without a name within the process; weights are stored by numbers of the model."""
    import keras
    import tensorflow as tf

    from worker.explain.compiled_pass import keep
    from worker.model.network import _name_alike, named_weights

    def build() -> Any:
        source = keras.Input((4,))
        network = keras.Model(source, keras.layers.Dense(4)(keras.layers.Dense(4)(source)))
        _name_alike(network)
        return network

    keras.layers.Dense(4)  # takes a number
    network = build()
    compiled = tf.function(lambda x: network(x), input_signature=[tf.TensorSpec((None, 4))], autograph=False)
    assert keep(tmp_path / "pass", compiled, network, [])
    captures = json.loads((tmp_path / "pass").read_bytes().split(b"\n")[1])["captures"]
    assert sorted(captures) == sorted(name for name, _ in named_weights(network))
    assert sorted(captures) == ["dense/bias", "dense/kernel", "dense_1/bias", "dense_1/kernel"]


def test_another_version_choice_or_library_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        key_of("a" * 64, ((), (), False)),
        key_of("b" * 64, ((), (), False)),
        key_of("a" * 64, (("out_relu",), (), False)),
        key_of("a" * 64, ((), (), True)),
    }
    monkeypatch.setattr("worker.explain.compiled_pass.version_of", lambda _name: "0.0")
    assert len(known | {key_of("a" * 64, ((), (), False))}) == 5


SCRIPT = """
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
from pathlib import Path
from worker.tensorflow_import import import_tensorflow_when_used
import_tensorflow_when_used()
import numpy as np
import tensorflow as tf
from worker.explain.compiled_pass import load_kept
from worker.explain.explainer import Explainer
from worker.model.metadata import read_metadata
file, folder, layers = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(",")
explainer = Explainer(
    read_metadata(folder), None, layers, "gradcam",
    kept=lambda panels: load_kept(file, folder / "weights.safetensors", panels),
)
explainer.warm_up()
print("whole:", "keras.src" in sys.modules, "tensorflow._api.v2.v2" in sys.modules)
assert tf.constant([1.0]).numpy() == 1  # whoever needs more gets it
from worker.model.network import load_model
metadata, network = load_model(folder)
image = np.full((1, metadata.preprocessing.size, metadata.preprocessing.size), 90, np.uint8)
one, other = (it.explain(image) for it in (explainer, Explainer(metadata, network, layers, "gradcam")))
assert np.array_equal(one.scores, other.scores)
assert all(np.array_equal(one.heatmaps[name], other.heatmaps[name]) for name in other.heatmaps)
print("same")
"""


@pytest.mark.slow
def test_a_process_with_a_kept_pass_imports_neither_keras_nor_all_of_tensorflow_until_it_needs_them(
    tmp_path: Path, model: tuple[ModelMetadata, Any], model_folder: Path
) -> None:
    file = kept(tmp_path, model, "gradcam")
    command = [sys.executable, "-c", SCRIPT, str(file), str(model_folder), ",".join(LAYERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-2:] == ["whole: False False", "same"]
