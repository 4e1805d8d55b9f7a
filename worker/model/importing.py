"""A Keras file made a model folder: network.json, weights.safetensors, model.json and a card."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors.numpy import save_file

from worker.class_names import is_no_finding
from worker.errors import ModelError
from worker.file_names import printable
from worker.keras_import.archive import half_precision_of, open_keras_file
from worker.keras_import.graph import Graph, read_graph
from worker.keras_import.head import Output, cut_activation, two_scores
from worker.keras_import.rebuild import rebuild, write_network
from worker.keras_import.weights import read_weights
from worker.model.imported_layers import default_layer_of, spatial_layers_of
from worker.model.metadata import (
    CARD_FILE,
    ModelMetadata,
    NetworkRecord,
    Preprocessing,
    Weights,
    sha256_of,
    write_metadata,
)
from worker.model.network import load_model, named_weights
from worker.safe_files import apply_umask


def import_keras(
    path: Path,
    folder: Path,
    *,
    version: str,
    classes: Sequence[str],
    preprocessing: dict[str, Any],
    positive: str | None = None,
    output: Output | None = None,
    findings: bool | None = None,
) -> ModelMetadata:
    """Write the model in `path` as the model folder `folder`, which must not exist.

    `classes` in the order of the outputs; with one sigmoid output, the second is the one it stands for.
    `preprocessing`: fields as `preprocessing_from` gives them. `findings`: of a sigmoid for each class,
    whether an image may have several; None: unless one is that of images without a finding.
    Raises ModelError.
    """
    shown = printable(path)
    try:
        with open_keras_file(path) as file:
            whole, half = read_graph(file.model, file.keras), half_precision_of(file.model)
            size = _size(whole, preprocessing)
            cut = cut_activation(whole, output)
            graph, kind = cut.graph, cut.output
            network = rebuild(graph, size)
            read_weights(file, graph, network)
        outputs = int(network.output.shape[1])
        if outputs == 1 and kind == "sigmoid" and len(classes) == 2:
            joined = two_scores(graph)
            bare = network
            network = rebuild(joined, size)
            network.set_weights(bare.get_weights())
            graph, kind = joined, "softmax"
        elif outputs != len(classes):
            two = "; one sigmoid output needs two classes, the positive one last" if outputs == 1 else ""
            raise ModelError(f"the model has {outputs} outputs, --classes names {len(classes)}{two}")
        if whole.shape[2] == 1 and preprocessing["scale"].startswith("imagenet"):
            raise ModelError(
                "the model takes gray images, and scale=imagenet differs by colour; say another scale"
            )
        layers = spatial_layers_of(graph, network)
        fields = {
            "version": version,
            "architecture": "keras",
            "output": kind,
            "exclusive": not _are_findings(classes, kind, findings) and kind == "sigmoid",
            "classes": tuple(classes),
            "positive_class": positive,
            "preprocessing": Preprocessing.model_validate({**preprocessing, "size": size}),
            "layers": layers,
            "default_layer": default_layer_of(layers),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "training": {
                "imported": {
                    "file": printable(path.name)[:255],
                    "sha256": sha256_of(path),
                    **({} if half is None else {"half_precision": half}),
                }
            },
        }
        return _write(network, graph, folder, fields)
    except ModelError as error:
        text = str(error)
        raise ModelError(text if shown in text else f"{shown}: {text}") from error.__cause__
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = printable(where + ": " + first["msg"])[:300]
        raise ModelError(f"{shown}: {what}") from None


def _are_findings(classes: Sequence[str], output: Output, said: bool | None) -> bool:
    without = next((name for name in classes if is_no_finding(name)), None)
    if not said:
        return output == "sigmoid" and said is None and without is None
    if output == "softmax":
        raise ModelError(
            "the classes of a softmax, or of one output, exclude each other; leave --findings out"
        )
    if without is not None:
        raise ModelError(
            f"class {without} is that of images without a finding, not a finding; leave --findings out"
        )
    return True


def _size(graph: Graph, preprocessing: dict[str, Any]) -> int:
    height, width, _ = graph.shape
    if (height is None) != (width is None) or height != width:
        raise ModelError(f"the model takes images of {height} x {width}; they must be square")
    size = preprocessing.get("size", height)
    if size is None:
        raise ModelError("the model takes images of any size: say the one it was trained at, size=SIDE")
    if height is not None and size != height:
        raise ModelError(f"the model takes images of {height} x {width}, --preprocessing says size={size}")
    if not 32 <= size <= 2048:
        raise ModelError(f"the model takes images of {size} x {size}; 32 to 2048 is what can be")
    return int(size)


def _write(network: Any, graph: Graph, folder: Path, fields: dict[str, Any]) -> ModelMetadata:
    if folder.exists():
        raise ModelError(f"{folder} exists already; a model version is never overwritten")
    half_done = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        # In single precision, as they came: maps are then those of the model itself.
        arrays = {
            name: np.array(variable.value, np.float32, order="C") for name, variable in named_weights(network)
        }
        save_file(arrays, half_done / "weights.safetensors")
        write_network(graph, half_done / "network.json")
        metadata = ModelMetadata.model_validate(
            {
                **fields,
                "weights": Weights(sha256=sha256_of(half_done / "weights.safetensors")),
                "network": NetworkRecord(sha256=sha256_of(half_done / "network.json")),
            }
        )
        write_metadata(half_done, metadata)
        (half_done / CARD_FILE).write_text(_card(metadata), encoding="utf-8")
        _check_written(half_done, network)
        for file in half_done.iterdir():
            apply_umask(file)
        apply_umask(half_done)
        half_done.rename(folder)
    except BaseException:
        shutil.rmtree(half_done, ignore_errors=True)
        raise
    return metadata


def _check_written(folder: Path, network: Any) -> None:
    """A version that would be refused or differ when it is loaded must not be made."""
    _, again = load_model(folder)
    side = int(network.input.shape[1])
    image = np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype(np.float32)
    if not np.array_equal(network(image, training=False), again(image, training=False), equal_nan=True):
        raise ModelError("the network gives other scores when it is loaded again; please report it")


def _card(metadata: ModelMetadata) -> str:
    given, imported = metadata.preprocessing, metadata.training["imported"]
    half = ""
    if "half_precision" in imported:
        half = f"- Computed in single precision; the file says {imported['half_precision']}\n"
    kind = "findings, each by itself" if metadata.has_findings else "an image has one of them"
    return (
        f"# {metadata.version}\n\nImported from `{imported['file']}` (SHA-256 {imported['sha256']}) on "
        f"{metadata.created}.\n\n"
        f"- Classes: {', '.join(metadata.classes)} ({kind}); positive: {metadata.positive_class or 'none'}\n"
        f"- Input: {given.size} x {given.size}, scale {given.scale}, margin {given.margin:g}, as was said\n"
        + half
        + f"- Layers with maps: {len(metadata.layers)}; default {metadata.default_layer}\n"
        "- Training data, figures and calibration: not known. Measure it by `xraycam evaluate` on images of "
        "your own before use, and set thresholds by `xraycam calibrate`.\n"
        "- Images are not checked for being chest radiographs.\n"
    )
