"""What is said of an image that was explained, that was refused, or that could not be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from worker.explain.attribution import AttributionShares, attribution_shares, mask_in_input
from worker.explain.caption import OverlayFacts, findings_by_probability, map_facts
from worker.explain.decision import FINDING_FROM, NO_FINDING, decision
from worker.explain.image_result import ImageResult, ImageTask
from worker.explain.job import ExplainerFacts, ReadImage
from worker.explain.options import ExplainOptions, Explanation, Panel
from worker.file_names import printable
from worker.images.dicom import DicomFacts
from worker.images.reader import Radiograph
from worker.odd_words import ODD_REASON, refusal
from worker.remote.folder import RemotePath

if TYPE_CHECKING:
    from worker.explain.explainer import Explainer


def _primary_panels(explainer: Explainer | ExplainerFacts, target_class: int) -> list[Panel]:
    """The panels of the class that an image is explained for, or with every class explained predicted as."""
    return [panel for panel in explainer.panels if panel.class_index in (None, target_class)]


def overlay_facts(
    result: ImageResult, explainer: Explainer | ExplainerFacts, options: ExplainOptions
) -> OverlayFacts:
    """What the caption of an image's overlay tells."""
    model = explainer.metadata
    positive = model.positive_class
    return OverlayFacts(
        predicted=result.predicted,
        probability=result.probability,
        target="every class" if explainer.every_class else result.target_class,
        model_version=model.version,
        maps=map_facts([panel.label for panel in explainer.panels], result.heatmap_max, model.heat_scales),
        scale=options.scale,
        positive_class=positive,
        positive_probability=None if positive is None else result.probabilities[positive],
        findings=findings_by_probability(model, result.probabilities),
        score=result.score,
        threshold=options.threshold,
        decision=decision(result.score, options.threshold, result.odd),
        odd=result.odd,
        outlines=options.outlines,
    )


def heat_of(
    explanation: Explanation, index: int, explainer: Explainer | ExplainerFacts, area: Image.Image | None
) -> AttributionShares | None:
    leading = _primary_panels(explainer, int(explanation.target_index[index]))[0]
    seen = None if area is None else mask_in_input(area, explainer.metadata.preprocessing)
    return attribution_shares(explanation.heatmaps[leading.name][index], seen)


def explained(
    task: ImageTask,
    radiograph: Radiograph,
    explanation: Explanation,
    index: int,
    explainer: Explainer | ExplainerFacts,
    heat: AttributionShares | None,
    heatmap_file: Path | RemotePath | None,
) -> ImageResult:
    model = explainer.metadata
    classes, positive = model.classes, model.positive_class
    probabilities = [float(value) for value in explanation.probabilities[index]]
    best = int(explanation.scores[index].argmax())
    seen = not model.has_findings or probabilities[best] >= FINDING_FROM
    target_class = int(explanation.target_index[index])
    maxima = {name: float(values[index]) for name, values in explanation.maxima.items()}
    return ImageResult(
        task,
        sha256=radiograph.sha256,
        width=radiograph.width,
        height=radiograph.height,
        predicted=classes[best] if seen else NO_FINDING,
        probability=probabilities[best] if seen else None,
        probabilities=dict(zip(classes, probabilities, strict=True)),
        score=None if positive is None else 100.0 * probabilities[classes.index(positive)],
        target_class=",".join(classes) if explainer.every_class else classes[target_class],
        logit=float(explanation.scores[index, target_class]),
        heatmap_max=maxima,
        blank=all(maxima[panel.name] <= 0 for panel in _primary_panels(explainer, target_class)),
        heat=heat,
        odd=None if explanation.odd is None else explanation.odd[index],
        overlay=task.overlay,
        heatmap_file=heatmap_file,
        dicom=radiograph.dicom,
    )


def refused(read: ReadImage, odd: str) -> ImageResult:
    error = refusal(printable(read.task.name), odd)
    return ImageResult(read.task, ODD_REASON, error, odd=odd, dicom=read.dicom)


def failed(task: ImageTask, error: Exception, dicom: DicomFacts | None) -> ImageResult:
    """No file may take its batch with it, not even through a fault of ours."""
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    said = f"{printable(task.source)} cannot be processed: {cause}"
    return ImageResult(task, "unreadable", said, dicom=dicom)
