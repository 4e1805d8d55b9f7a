"""An image to explain, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from worker.explain.attribution import AttributionShares
from worker.images.dicom import DicomFacts
from worker.remote.folder import RemotePath


@dataclass(frozen=True)
class ImageTask:
    """One image to explain. `overlay` has its final suffix; `name` is what people are shown.

    With `read_root` and `write_root` (real folders) nothing outside is read or written, nor through a link.
    """

    image_id: int
    source: Path | RemotePath
    overlay: Path | RemotePath
    name: str
    read_root: Path | None = None
    write_root: Path | None = None


@dataclass(frozen=True)
class ImageResult:
    """What became of one item: all about the image, or `reason` and `error` where it failed.

    `probability` is that of the `predicted` class, calibrated as are all; of a model of findings that is the
    most probable one, or with none at 0.5 or more NO_FINDING, which has no probability; `score`, 0 to 100,
    that of the model's positive class, None for a model without one.
    `brightness` and `contrast`: see `input_statistics`. `logit` is of `target_class`.
    With every class explained, `target_class` names them all and `logit` is that of the predicted one.
    `heatmap_max` holds by the explainer's names the heatmap's maximum before scaling. `blank` says that all
    of them are 0, and `heat` where the heat of the first map lies, None if that is blank; with every class
    explained, both of the maps of the predicted one. `odd`: what the version's check finds, words separated
    by commas, empty for nothing; None where the image was not checked.
    """

    task: ImageTask
    reason: str | None = None
    error: str | None = None
    sha256: str = ""
    width: int = 0
    height: int = 0
    predicted: str = ""
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    brightness: float = math.nan
    contrast: float = math.nan
    target_class: str = ""
    logit: float = math.nan
    heatmap_max: dict[str, float] = field(default_factory=dict)
    blank: bool = False
    heat: AttributionShares | None = None
    odd: str | None = None
    overlay: Path | RemotePath | None = None
    heatmap_file: Path | RemotePath | None = None
    dicom: DicomFacts | None = None
