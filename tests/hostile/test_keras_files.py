"""A Keras file from anywhere is a model or a ModelError of one line; nothing in it runs."""

from __future__ import annotations

import copy
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from worker.errors import ModelError
from worker.keras_import.preprocessing import preprocessing_from
from worker.keras_import.rebuild import read_network
from worker.model.importing import import_keras


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(source)
    x = keras.layers.Activation("relu", name="act")(x)
    x = keras.layers.Dense(2, activation="softmax", name="dense")(keras.layers.GlobalAveragePooling2D()(x))
    path = tmp_path_factory.mktemp("good") / "good.keras"
    keras.Model(source, x).save(path)
    keras.Model(source, x).save(path.with_suffix(".h5"))
    return path


def refusal_of(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        import_keras(
            path,
            path.parent / "model",
            version="m",
            classes=("a", "b"),
            preprocessing=preprocessing_from("scale=0-1"),
        )
    assert not (path.parent / "model").exists()
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 1000
    return text


def members_of(good: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(good) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def layer(config: Any, number: int) -> Any:
    return config["config"]["layers"][number]


def _set(number: int, *keys: str, value: Any) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        part = layer(config, number)
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value

    return change


def _circle(config: Any) -> None:
    layer(config, 1)["inbound_nodes"] = copy.deepcopy(layer(config, 3)["inbound_nodes"])


def _deep(config: Any) -> None:
    inner = copy.deepcopy(config)
    for _ in range(40):
        outer = copy.deepcopy(config)
        inner["config"]["name"] = "conv"
        inner["inbound_nodes"] = layer(outer, 1)["inbound_nodes"]
        outer["config"]["layers"][1] = inner
        inner = outer
    config.clear()
    config.update(inner)


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "lambda": (_set(2, "class_name", value="Lambda"), "act is a Lambda"),
    "custom": (_set(2, "module", value="os.path"), "somebody's own"),
    "registered": (_set(2, "registered_name", value="Evil>Layer"), "somebody's own"),
    "unknown": (_set(2, "class_name", value="LSTM"), "act is a LSTM"),
    "function": (_set(2, "config", "activation", value={"class_name": "function"}), "activation"),
    "huge": (_set(4, "config", "units", value=10**12), "units"),
    "wide": (_set(1, "config", "kernel_size", value=[64, 10**30]), "kernel_size"),
    "large": (_set(4, "config", "units", value=65536), "weights|holds"),
    "not a number": (_set(1, "config", "filters", value=True), "filters"),
    "channels first": (_set(1, "config", "data_format", value="channels_first"), "channels_last"),
    "markup": (_set(1, "name", value="<b>x</b>"), "is called"),
    "control": (_set(1, "name", value="a\x1b[2J"), "is called"),
    "outside": (_set(1, "name", value="../../conv"), "is called"),
    "setting": (_set(1, "config", "hook", value="x"), "hook"),
    "circle": (_circle, "circle"),
    "deep": (_deep, "deep"),
    "empty": (lambda config: config.update(config={}), "damaged"),
    "words": (lambda config: config["config"].update(layers="x"), "no layers"),
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_configurations(what: str, good: Path, tmp_path: Path) -> None:
    members = members_of(good)
    config = json.loads(members["config.json"])
    change, text = CHANGES[what]
    change(config)
    path = written(tmp_path / "x.keras", {**members, "config.json": json.dumps(config).encode()})
    assert re.search(text, refusal_of(path))


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{", b"[" * 100_000, b"[]", b'{"a": NaN}', b'{"a": ' + b"1" * 10_000 + b"}", b""]
)
def test_no_json(content: bytes, good: Path, tmp_path: Path) -> None:
    refusal_of(written(tmp_path / "x.keras", {**members_of(good), "config.json": content}))


def test_archives(good: Path, tmp_path: Path) -> None:
    members = members_of(good)
    assert "leaves" in refusal_of(written(tmp_path / "a.keras", {**members, "../evil": b""}))
    bomb = {**members, "model.weights.h5": b"\0" * 50_000_000}
    assert "unpacked" in refusal_of(written(tmp_path / "b.keras", bomb))
    assert "config.json" in refusal_of(written(tmp_path / "c.keras", {"x": b""}))
    twice = tmp_path / "d.keras"
    written(twice, {"config.json": b"{}", "konfig.json": b"{}"})
    twice.write_bytes(twice.read_bytes().replace(b"konfig.json", b"config.json"))
    assert "twice" in refusal_of(tmp_path / "d.keras")
    (tmp_path / "e.keras").write_bytes(good.read_bytes()[:3000])
    refusal_of(tmp_path / "e.keras")
    (tmp_path / "f.keras").write_bytes(pickle.dumps({"a": 1}))
    assert "neither" in refusal_of(tmp_path / "f.keras")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    assert "model.save" in refusal_of(tmp_path / "saved")


@pytest.mark.parametrize("what", ["nan", "shape", "soft", "external", "virtual", "text", "gone"])
def test_weights(what: str, good: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(good.with_suffix(".h5").read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["model_weights/dense"]
        (name,) = [one for one in group.attrs["weight_names"] if "kernel" in str(one)]
        name = name.decode() if isinstance(name, bytes) else name
        values = group[name][()]
        del group[name]
        if what == "nan":
            group[name] = np.full_like(values, np.nan)
        elif what == "shape":  # a terabyte that is not there
            group.create_dataset(name, (500_000, 500_000), "f4", chunks=(1000, 1000), compression="gzip")
        elif what == "soft":
            group[name] = h5py.SoftLink("/model_weights/conv")
        elif what == "external":
            group[name] = h5py.ExternalLink("/etc/passwd", "/")
        elif what == "virtual":
            layout = h5py.VirtualLayout(values.shape, "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", values.shape)
            group.create_virtual_dataset(name, layout)
        elif what == "text":
            group.create_dataset(name, values.shape, "S8")
    assert "dense" in refusal_of(path)


def test_weights_alone_say_what_to_give(good: Path, tmp_path: Path) -> None:
    keras.models.load_model(good).save_weights(tmp_path / "x.weights.h5")
    assert "no architecture" in refusal_of(tmp_path / "x.weights.h5")


@pytest.mark.parametrize(
    "change",
    [
        {"layers": []},
        {"output": "gone"},
        {"channels": 4},
        {"layers": [{"name": "a", "class": "Lambda", "settings": {}, "inputs": ["input"]}]},
        {"layers": [{"name": "a", "class": "Dense", "settings": {"units": 10**12}, "inputs": ["input"]}]},
        {"layers": [{"name": "a", "class": "Add", "settings": {}, "inputs": ["a", "a"]}], "output": "a"},
    ],
)
def test_network_json_is_checked_as_strictly(change: Any, tmp_path: Path) -> None:
    dense = {"name": "a", "class": "Flatten", "settings": {}, "inputs": ["input"]}
    whole = {"format": 1, "channels": 3, "layers": [dense], "output": "a"}
    (tmp_path / "network.json").write_text(json.dumps({**whole, **change}))
    with pytest.raises(ModelError):
        read_network(tmp_path / "network.json")
