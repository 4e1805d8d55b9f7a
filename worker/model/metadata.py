"""`model.json`: what rebuilds a model and prepares its input, without code; and whether a folder holds it."""

from __future__ import annotations

import difflib
import hashlib
import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.errors import ModelError
from worker.file_names import printable
from worker.model.kept_copy import METADATA_FILE as METADATA_FILE
from worker.model.score_reference import Distribution, OperatingPoint
from worker.odd_words import ODD_WORDS

# What else a version that was trained here brings along, for people to read.
CARD_FILE = "MODEL_CARD.md"
METRICS_FILE = "metrics.json"


# model.json is a few kilobytes, weights are tens of megabytes; larger ones are no models of ours.
LARGEST_METADATA = 10_000_000
LARGEST_WEIGHTS = 1_000_000_000


# Names are printed, stored and used as labels: on one line.
def _known_odd_word(word: str) -> str:
    if word not in ODD_WORDS:
        raise ValueError(f"is none of {', '.join(ODD_WORDS)}")
    return word


Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


OddWord = Annotated[str, AfterValidator(_known_odd_word)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Preprocessing(_Part):
    """How a gray radiograph becomes the network's input: training, evaluating and explaining alike."""

    size: int = Field(224, ge=32, le=2048, description="side of the square input, pixels")
    margin: float = Field(0.0, ge=0.0, lt=0.4, description="share cut off each edge before resizing")
    resize: Literal["bilinear"] = "bilinear"
    scale: Literal["unit", "symmetric", "pixels", "imagenet", "imagenet-bgr"] = Field(
        "symmetric",
        description="0..255 to 0..1, to -1..1, as it is, less ImageNet's mean over its standard deviation, "
        "or less ImageNet's mean in the order blue, green, red",
    )

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a `width` x `height` image the network sees: (left, upper, right, lower), pixels."""
        return (
            width * self.margin,
            height * self.margin,
            width * (1 - self.margin),
            height * (1 - self.margin),
        )


class Head(_Part):
    """The classifier on top: pooling, batch norm, dropout, dense, batch norm, ReLU, dense per class."""

    units: int = Field(128, ge=1, le=4096)
    dropout: float = Field(0.8, ge=0.0, lt=1.0)
    l2: float = Field(0.1, ge=0.0, le=1e6)


class Layer(_Part):
    """A layer by its Keras name, with the size of what it puts out."""

    name: Name
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    channels: int = Field(ge=1, le=65536)
    is_cam_candidate: bool = Field(description="an end of a block, with a map of at least 4 x 4")


class Weights(_Part):
    file: str = Field("weights.safetensors", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class NetworkRecord(_Part):
    """The configuration of an imported network, checked layer by layer when it is read."""

    file: str = Field("network.json", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class InputCheckRecord(_Part):
    """The check of whether an image is one that the model can be asked about, see `worker/input_check`."""

    file: str = Field("input_check.safetensors", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    layer: Name = Field(description="whose activations it sees")
    grid: Literal[3] = Field(3, description="cells to a side over which they are averaged")
    thresholds: dict[OddWord, float] = Field(description="by word; a word without one is never said")
    figures: dict[str, Any] = Field(default_factory=dict, description="what was measured of it")


class ModelMetadata(_Part):
    """One version of a model."""

    format: Literal[1] = 1
    version: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    architecture: Literal[
        "mobilenetv2", "efficientnetv2-b0", "densenet121", "resnet50", "convnext-tiny", "keras"
    ] = Field("mobilenetv2", description="keras: an imported network, rebuilt from `network`")
    network: NetworkRecord | None = None
    output: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="one class of an image, or each class a finding that is there or not"
    )
    exclusive: bool = Field(
        False, description="of a sigmoid output: an image has one class all the same, the most probable"
    )
    alpha: float = Field(1.0, ge=0.05, le=1.4)
    classes: tuple[Name, ...] = Field(min_length=2, max_length=10_000)
    positive_class: Name | None = Field(None, description="the class that `score` is of, if any")
    temperature: float = Field(
        1.0, ge=0.05, le=20.0, description="scores are divided by it before softmax or sigmoid: calibration"
    )
    operating_points: tuple[OperatingPoint, ...] = Field(
        (), max_length=100, description="thresholds on the score, from the version's validation images"
    )
    distributions: dict[Name, Distribution] = Field(
        default_factory=dict, max_length=20, description="of results of the validation images, by column"
    )
    preprocessing: Preprocessing = Preprocessing()
    head: Head = Head()
    layers: tuple[Layer, ...] = Field(max_length=10_000)
    default_layer: Name
    default_method: Name = "gradcam"
    heat_scales: dict[Name, float] = Field(
        default_factory=dict,
        description="by layer and method: the heat at which colours end, so that weak evidence looks weak",
    )
    weights: Weights
    input_check: InputCheckRecord | None = Field(None, description="None: images are not checked")
    created: Name
    training: dict[str, Any] = Field(default_factory=dict, description="recipe, data and figures")

    @model_validator(mode="after")
    def _names_agree(self) -> ModelMetadata:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class names must differ, got {str(list(self.classes))[:200]}")
        if (self.network is not None) != (self.architecture == "keras"):
            raise ValueError("an imported network, architecture 'keras', and no other has a network file")
        files = [part.file for part in (self.weights, self.network, self.input_check) if part is not None]
        if len({METADATA_FILE, *files}) != len(files) + 1:
            raise ValueError("weights, network and input_check need files of their own")
        known = {layer.name for layer in self.layers}
        if self.input_check is not None and self.input_check.layer not in known:
            raise ValueError(f"input_check.layer {self.input_check.layer!r} is not among the layers")
        if self.positive_class is not None and self.positive_class not in self.classes:
            raise ValueError(f"positive_class {self.positive_class[:100]!r} is not among the classes")
        if any(scale <= 0 for scale in self.heat_scales.values()):
            raise ValueError("heat_scales must be greater than 0")
        if self.default_layer not in known:
            raise ValueError(f"default_layer {self.default_layer!r} is not among the layers")
        return self

    @property
    def has_findings(self) -> bool:
        """Whether an image may have several of the classes, or none."""
        return self.output == "sigmoid" and not self.exclusive

    @property
    def created_at(self) -> datetime | None:
        """`created` as a moment, UTC where it says no zone; None where it is none."""
        try:
            moment = datetime.fromisoformat(self.created)
        except ValueError:
            return None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    def require_layer(self, name: str) -> Layer:
        """The layer called `name`. Raises ModelError with near names when there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        near = difflib.get_close_matches(name, [layer.name for layer in self.layers], n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ModelError(f"model {self.version} has no layer {name!r}{hint}; 'xraycam layers' lists them all")

    def require_operating_point(self, name: str) -> OperatingPoint:
        """The operating point called `name`. Raises ModelError with the names there are."""
        for point in self.operating_points:
            if point.name == name:
                return point
        known = ", ".join(point.name for point in self.operating_points)
        raise ModelError(
            f"model {self.version} has no operating point {name!r}; it has "
            f"{known or 'none: it was trained without --positive; give a --threshold or a --site'}"
        )

    def require_class(self, name: str) -> int:
        """The index of the class called `name`. Raises ModelError with the known names."""
        if name in self.classes:
            return self.classes.index(name)
        raise ModelError(
            f"model {self.version} knows no class {name!r}; its classes are {', '.join(self.classes)}"
        )


def read_metadata(folder: Path) -> ModelMetadata:
    """Read and check `model.json` of `folder`. Raises ModelError when missing or damaged."""
    file = folder / METADATA_FILE
    shown = printable(file)
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise ModelError(f"{shown} is not a regular file; restore or import it again")
        with file.open("rb") as stream:
            content = stream.read(LARGEST_METADATA + 1)
    except FileNotFoundError:
        raise ModelError(f"{printable(folder)} is not a model folder: it has no {METADATA_FILE}") from None
    except OSError as error:
        raise ModelError(f"{shown} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST_METADATA:
        raise ModelError(f"{shown} is larger than any metadata: {LARGEST_METADATA:,} bytes at most")
    try:
        return ModelMetadata.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        what = printable(f"{where}: {first['msg']}"[:1000])[:300]
        raise ModelError(f"{shown} is damaged: {what}; restore or import it again") from None


def write_metadata(folder: Path, metadata: ModelMetadata) -> None:
    """Write `model.json` into `folder`, readable and stable."""
    text = json.dumps(metadata.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / METADATA_FILE).write_text(text + "\n", encoding="utf-8")


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(folder: Path) -> str:
    """SHA-256 of a folder's model.json, which in turn holds that of the weights."""
    return sha256_of(folder / METADATA_FILE)


def check_folder(folder: Path, digest: str | None = None, *, origin: str | None = None) -> ModelMetadata:
    """Read the metadata and check the weights' SHA-256, and with `digest` that of model.json.

    `origin`: the place to name in messages, where `folder` is but a copy.
    Raises ModelError when anything is missing or damaged.
    """
    metadata = read_metadata(folder)
    place = printable(origin or str(folder))
    model = f"model {metadata.version}: {place}"
    try:
        _refuse_links(folder, model)
        if digest is not None and digest_of(folder) != digest:
            raise ModelError(
                f"{model}/{METADATA_FILE} was changed since it was published; restore or import it again"
            )
        for part in (metadata.weights, metadata.network, metadata.input_check):
            if part is not None:
                _check_file(folder, part, model)
    except OSError as error:
        raise ModelError(f"{model} cannot be read: {error.strerror}; check its permissions") from error
    return metadata


def _check_file(folder: Path, part: Weights | NetworkRecord | InputCheckRecord, model: str) -> None:
    file = folder / part.file
    if not file.is_file():
        raise ModelError(f"{model}/{part.file} is missing; restore or import it again")
    if file.stat().st_size > LARGEST_WEIGHTS:
        raise ModelError(f"{model}/{part.file} has more than {LARGEST_WEIGHTS:,} bytes, the limit")
    found = sha256_of(file)
    if found != part.sha256:
        raise ModelError(
            f"{model}/{part.file} is damaged: its SHA-256 is {found[:12]}..., model.json says "
            f"{part.sha256[:12]}...; restore or import it again"
        )


def _refuse_links(folder: Path, model: str) -> None:
    """A link in a folder from elsewhere would put a file of this machine into the store."""
    for file in folder.rglob("*"):
        if file.is_symlink():
            raise ModelError(
                f"{model}/{printable(file.relative_to(folder))} is a link, which a model folder may not "
                "hold; put the file itself there"
            )
        if not (file.is_file() or file.is_dir()):
            raise ModelError(f"{model}/{printable(file.relative_to(folder))} is no file; remove it")
