"""What images are read and drawn for, as data that another process can be given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from worker.explain.feed import Place
from worker.explain.image_result import ImageTask
from worker.explain.options import ExplainOptions, Panel
from worker.images.dicom import DicomFacts
from worker.images.masks import AnnotationMasks, load_masks
from worker.images.preprocess import Pixels
from worker.images.reader import Radiograph
from worker.model.metadata import ModelMetadata

if TYPE_CHECKING:
    from worker.explain.explainer import Explainer


@dataclass(frozen=True)
class ReadImage:
    """What is read of an image: the network's input, uint8 (size, size), and what drawing it needs."""

    task: ImageTask
    sha256: str
    pixels: Pixels
    count: int  # of the radiograph's pixels
    radiograph: Radiograph | None  # None: too large to hold until it is drawn
    dicom: DicomFacts | None
    place: Place | None = None  # the process that holds the radiograph, where that is not this one


@dataclass(frozen=True)
class ExplainerFacts:
    """What reading and drawing need of an explainer."""

    metadata: ModelMetadata
    panels: tuple[Panel, ...]
    every_class: bool


@dataclass(frozen=True)
class Job:
    """What images are read and drawn for."""

    explainer: Explainer | ExplainerFacts
    options: ExplainOptions

    @cached_property
    def marked(self) -> AnnotationMasks | None:
        """The areas that are marked. Raises XraycamError where they cannot be read."""
        if self.options.masks is None:
            return None
        return load_masks(Path(self.options.masks), self.options.masks_digest)

    def for_other_process(self) -> Job:
        """The same as plain data: no compiled functions, no areas, which are loaded where they are needed."""
        panels = tuple(replace(panel, method=cast(Any, None)) for panel in self.explainer.panels)
        facts = ExplainerFacts(self.explainer.metadata, panels, self.explainer.every_class)
        return Job(facts, self.options)
