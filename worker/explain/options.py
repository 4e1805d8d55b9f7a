"""What a run asks for, checked before anything is enqueued; and what an explainer answers, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from worker.explain.names import (
    ALL,
    AUTO,
    COLORMAPS,
    FULL,
    LEAST_SIDE,
    METHODS,
    OUTPUT_FORMATS,
    SCALES,
    USUAL_SIDE,
)
from worker.images.dicom import ACCEPTABLE
from worker.odd_words import FLAG, ODD_CHOICES


def _one_of(names: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"is none of {', '.join(names)}")
        return value

    return AfterValidator(check)


def _side(value: int | str) -> int | str:
    if value != FULL and not (isinstance(value, int) and value >= LEAST_SIDE):
        raise ValueError(f"is neither {FULL!r} nor a number of pixels from {LEAST_SIDE} on")
    return value


MethodName = Annotated[str, _one_of((AUTO, *METHODS))]
Colormap = Annotated[str, _one_of(COLORMAPS)]
OutputFormat = Annotated[str, _one_of(OUTPUT_FORMATS)]
Scale = Annotated[str, _one_of(SCALES)]


class ExplainOptions(BaseModel):
    """How images are explained and drawn. Two runs with equal options give equal files and rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[str, ...] = Field((), description="layers by name; empty or 'auto': the model's default")
    methods: tuple[MethodName, ...] = Field((), description="empty or 'auto': the model's default")
    target: str = Field(
        AUTO,
        description="the class that is explained, 'predicted', 'all', or 'auto': the model's positive class, "
        "the predicted one where it names none",
    )
    colormap: Colormap = "inferno"
    opacity: float = Field(0.5, ge=0.0, le=1.0, description="share of colour where the heatmap is 1")
    output_format: OutputFormat = "jpeg"
    overlay_side: Annotated[int | str, AfterValidator(_side)] = Field(
        USUAL_SIDE,
        description="longer side of an overlay's pictures in pixels, at most; 'full': the image's own",
    )
    heatmaps: bool = Field(False, description="keep the raw heatmaps beside the overlays")
    scale: Scale = Field("version", description="where colours end: of the model version, or of each image")
    caption: bool = Field(True, description="a band under the picture that says what it shows")
    outlines: bool = Field(False, description="draw the outlines of the marked areas")
    masks: str | None = Field(None, description="marked areas: a folder of masks or a JSON file, absolute")
    masks_digest: str | None = Field(
        None, max_length=64, description="SHA-256 of what is marked: other masks are another run"
    )
    accept: tuple[Annotated[str, _one_of(ACCEPTABLE)], ...] = Field(
        (), description="files that are let in though unusual"
    )

    site: str | None = Field(None, max_length=64, description="whose threshold is used")
    threshold: float | None = Field(
        None, ge=0.0, le=100.0, description="the score from which on an image is referred; None: no decisions"
    )
    keep_age_sex: bool = Field(False, description="keep age and sex of DICOM files in the results")
    odd: Annotated[str, _one_of(ODD_CHOICES)] = Field(
        FLAG, description="flag: images found odd are explained and marked; refuse: they fail"
    )

    @property
    def every_class(self) -> bool:
        return self.target == ALL


if TYPE_CHECKING:
    from worker.explain.cam import Method

Floats = np.ndarray[Any, np.dtype[np.float32]]
Indices = np.ndarray[Any, np.dtype[np.int32]]

# As a target: the class with the highest score.
ARGMAX_TARGET = -1


@dataclass(frozen=True)
class Explanation:
    """What the network says of a batch of B images, of K classes, and where the scores came from.

    `probabilities` (B, K) are those of `probabilities_of` for `scores` (B, K); `target_index` (B,)
    is the class index each heatmap is of, or with every class explained the predicted one. `heatmaps` holds
    by the explainer's `names` (B, h, w) in 0..1, each image divided by its own maximum; `maxima` (B,) those
    maxima. A maximum of 0 says that the map is blank: it is 0 everywhere. `odd` has for each image what the
    version's check finds, words separated by commas, empty for nothing; None where the version has no check.
    """

    probabilities: Floats
    scores: Floats
    target_index: Indices
    heatmaps: dict[str, Floats]
    maxima: dict[str, Floats]
    odd: list[str] | None = None

    def of(self, index: int) -> Explanation:
        """That of one image, as a batch of one."""
        one = slice(index, index + 1)
        return Explanation(
            self.probabilities[one],
            self.scores[one],
            self.target_index[one],
            {name: values[one] for name, values in self.heatmaps.items()},
            {name: values[one] for name, values in self.maxima.items()},
            None if self.odd is None else self.odd[one],
        )


@dataclass(frozen=True)
class Panel:
    """One heatmap of each image: of which layer, by which method, of which class (None: that explained).

    `name` is short: the layer, and what else tells the panels of an explainer apart. `label` is what
    people read under a picture.
    """

    layer: str
    method: Method
    class_index: int | None
    name: str
    label: str
