"""Many images through one explainer: reading, explaining and rendering of neighbouring batches overlap."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from worker.errors import ImageError, StorageError
from worker.explain.attribution import AttributionShares, attribution_shares, mask_in_input
from worker.explain.caption import OverlayFacts, findings_by_probability, map_facts
from worker.explain.decision import FINDING_FROM, NO_FINDING, decision
from worker.explain.explainer import Explainer
from worker.explain.names import ALL, AUTO, PREDICTED
from worker.explain.options import ARGMAX_TARGET, ExplainOptions, Explanation, Panel
from worker.explain.overlay import encode, heatmap_content, render, write_atomically
from worker.file_names import printable
from worker.images.dicom import DicomFacts
from worker.images.limits import LARGE_PIXELS, Limits, one_large_at_a_time
from worker.images.masks import AnnotationMasks, load_masks
from worker.images.preprocess import Pixels, input_statistics, preprocess
from worker.images.reader import Radiograph, read_radiograph
from worker.model.metadata import Preprocessing
from worker.odd_words import ODD_REASON, REFUSE, refusal
from worker.remote.folder import RemotePath
from worker.remote.read_ahead import read_ahead

HEATMAP_SUFFIX = ".npz"
# Files on their way to an object store; with 50 ms a request, of 2,500 images a second.
_UPLOADS = 128


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
    `heatmap_max` holds by the explainer's names the heatmap's maximum before scaling. `blank` says that one
    of them is 0, and `heat` where the heat of the first map lies, None if that is blank; with every class
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


@dataclass(frozen=True)
class _Read:
    task: ImageTask
    sha256: str
    pixels: Pixels
    radiograph: Radiograph | None  # None: too large to hold until it is drawn
    dicom: DicomFacts | None


@dataclass(frozen=True)
class _Drawn:
    """A result, and its files that are on their way to an object store."""

    result: ImageResult
    uploads: tuple[tuple[RemotePath, Future[Any]], ...] = ()

    @property
    def is_written(self) -> bool:
        return all(begun.done() for _, begun in self.uploads)

    def finish(self) -> ImageResult:
        """The result once its files are written, or why they cannot be. Raises StorageError."""
        try:
            for file, begun in self.uploads:
                file.end_write(begun)
        except ImageError as error:
            return ImageResult(self.result.task, error.reason, str(error), dicom=self.result.dicom)
        return self.result


class Pipeline:
    """Threads for reading and for rendering, kept between runs. The explainer runs in the calling thread.

    At most four batches of decoded images are held: one read ahead, one explained, two being rendered.
    """

    # Processor time an image (2 cores, 512x512 PNG, 224 px, block_15_add; ms): read 2.0, resize 0.5,
    # explain 7.2 in batches of 8, 6.4 of 16, 6.1 of 64, render 1.6, encode 0.6, write 0.2. So 16, to which
    # the explainer fills batches up anyway, has most of what batching gives. With two threads a stage that
    # is alone at work, as at both ends of a run, still uses both cores.
    def __init__(
        self, readers: int = 2, renderers: int = 2, batch_size: int = 16, limits: Limits | None = None
    ) -> None:
        self.batch_size = batch_size
        self._limits = limits or Limits()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="read")
        self._renderers = ThreadPoolExecutor(renderers, thread_name_prefix="render")

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads, after the files they are writing."""
        self._readers.shutdown(cancel_futures=True)
        self._renderers.shutdown(cancel_futures=True)

    def run(
        self,
        explainer: Explainer,
        items: Iterable[ImageTask],
        options: ExplainOptions,
        progress: Callable[[], None] | None = None,
    ) -> Iterator[ImageResult]:
        """Explain `items`, which are taken as they are needed; exactly one outcome for each, in any order.

        A file that fails takes no other with it. `progress` is called after every batch. Raises StorageError
        when a whole folder cannot be read or written now, ModelError for a class in `options.target`
        that the model does not know, XraycamError for marked areas that cannot be read, and whatever the
        explainer raises.
        """
        preprocessing = explainer.metadata.preprocessing
        target = _target(explainer, options)
        marked = None if options.masks is None else load_masks(Path(options.masks))
        batch_size = 1 if explainer.needs_per_channel_passes else self.batch_size
        waiting = read_ahead(items, self._limits.max_bytes)
        reading: deque[Future[_Read | ImageResult]] = deque()
        rendering: deque[Future[_Drawn]] = deque()
        writing: deque[_Drawn] = deque()
        try:
            while True:
                batch: list[_Read] = []
                while len(batch) < batch_size:
                    for task in islice(waiting, 2 * batch_size - len(batch) - len(reading)):
                        reading.append(
                            self._readers.submit(self._read, task, preprocessing, frozenset(options.accept))
                        )
                    if not reading:
                        break
                    found = reading.popleft().result()
                    if isinstance(found, ImageResult):
                        yield found
                    else:
                        batch.append(found)
                if not batch:
                    break
                explanation = explainer.explain(
                    np.stack([read.pixels for read in batch]), np.full(len(batch), target, np.int32)
                )
                while len(rendering) > batch_size:
                    writing.append(rendering.popleft().result())
                while writing and (len(writing) > _UPLOADS or writing[0].is_written):
                    yield writing.popleft().finish()
                for index, read in enumerate(batch):
                    if options.odd == REFUSE and explanation.odd is not None and explanation.odd[index]:
                        yield _refused(read, explanation.odd[index])
                        continue
                    rendering.append(
                        self._renderers.submit(
                            self._render, read, explanation, index, explainer, options, marked
                        )
                    )
                if progress is not None:
                    progress()
            while rendering:
                writing.append(rendering.popleft().result())
            while writing:
                yield writing.popleft().finish()
        finally:
            waiting.close()
            for begun in reading:
                begun.cancel()
            for drawing in rendering:
                drawing.cancel()

    def _read(
        self, task: ImageTask, preprocessing: Preprocessing, accept: frozenset[str]
    ) -> _Read | ImageResult:
        dicom: DicomFacts | None = None
        try:
            radiograph = read_radiograph(task.source, self._limits, task.read_root, accept)
            dicom = radiograph.dicom
            pixels = preprocess(radiograph, preprocessing)
            # Of large images only the network's input is held, and they are decoded again when they are
            # drawn: so what a pipeline holds is bounded (half a gigabyte at a batch of 16).
            held = radiograph if radiograph.width * radiograph.height <= LARGE_PIXELS else None
            return _Read(task, radiograph.sha256, pixels, held, dicom)
        except ImageError as error:
            return ImageResult(task, error.reason, str(error), dicom=error.dicom or dicom)
        except StorageError:
            raise
        except Exception as error:
            return _unexpected(task, error, dicom)

    def _render(
        self,
        read: _Read,
        explanation: Explanation,
        index: int,
        explainer: Explainer,
        options: ExplainOptions,
        marked: AnnotationMasks | None,
    ) -> _Drawn:
        task = read.task
        preprocessing = explainer.metadata.preprocessing
        heatmaps = [(panel.label, explanation.heatmaps[panel.name][index]) for panel in explainer.panels]
        heatmap_file = task.overlay.with_suffix(HEATMAP_SUFFIX) if options.heatmaps else None
        try:
            with nullcontext() if read.radiograph else one_large_at_a_time:
                radiograph = read.radiograph or self._read_again(read, frozenset(options.accept))
                area = (
                    None
                    if marked is None or isinstance(task.source, RemotePath)
                    else marked.of(task.source, (radiograph.width, radiograph.height))
                )
                heat = _heat(explanation, index, explainer, area)
                result = _done(task, radiograph, explanation, index, explainer, heat, heatmap_file)
                facts = overlay_facts(result, explainer, options)
                outlined = area if options.outlines else None
                picture = render(radiograph, heatmaps, preprocessing, options, facts, outlined)
                content = encode(picture, options.output_format, facts)
            files = [(task.overlay, content)]
            if heatmap_file is not None:
                kept = heatmap_content(heatmaps, preprocessing=preprocessing, image_sha256=read.sha256)
                files.insert(0, (heatmap_file, kept))
            uploads = []
            for file, written in files:
                if isinstance(file, RemotePath):
                    uploads.append((file, file.begin_write(written)))
                else:
                    write_atomically(written, file, task.write_root)
        except ImageError as error:
            return _Drawn(ImageResult(task, error.reason, str(error), dicom=read.dicom))
        except StorageError:
            raise
        except Exception as error:
            return _Drawn(_unexpected(task, error, read.dicom))
        brightness, contrast = input_statistics(read.pixels)
        return _Drawn(replace(result, brightness=brightness, contrast=contrast), tuple(uploads))

    def _read_again(self, read: _Read, accept: frozenset[str]) -> Radiograph:
        radiograph = read_radiograph(read.task.source, self._limits, read.task.read_root, accept)
        if radiograph.sha256 != read.sha256:
            raise ImageError(
                "unreadable", f"{printable(read.task.source)} changed while it was explained; retry it"
            )
        return radiograph


def _target(explainer: Explainer, options: ExplainOptions) -> int:
    positive = explainer.metadata.positive_class
    if options.target == AUTO and positive is not None:
        return explainer.metadata.require_class(positive)
    if options.target in (AUTO, PREDICTED, ALL):
        return ARGMAX_TARGET
    return explainer.metadata.require_class(options.target)


def _primary_panels(explainer: Explainer, target_class: int) -> list[Panel]:
    """The panels of the class that an image is explained for, or with every class explained predicted as."""
    return [panel for panel in explainer.panels if panel.class_index in (None, target_class)]


def overlay_facts(result: ImageResult, explainer: Explainer, options: ExplainOptions) -> OverlayFacts:
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


def _heat(
    explanation: Explanation, index: int, explainer: Explainer, area: Image.Image | None
) -> AttributionShares | None:
    leading = _primary_panels(explainer, int(explanation.target_index[index]))[0]
    seen = None if area is None else mask_in_input(area, explainer.metadata.preprocessing)
    return attribution_shares(explanation.heatmaps[leading.name][index], seen)


def _done(
    task: ImageTask,
    radiograph: Radiograph,
    explanation: Explanation,
    index: int,
    explainer: Explainer,
    heat: AttributionShares | None,
    heatmap_file: Path | RemotePath | None,
) -> ImageResult:
    model = explainer.metadata
    classes, positive = model.classes, model.positive_class
    probabilities = [float(value) for value in explanation.probabilities[index]]
    best = int(explanation.scores[index].argmax())
    seen = model.output == "softmax" or probabilities[best] >= FINDING_FROM
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
        blank=any(maxima[panel.name] <= 0 for panel in _primary_panels(explainer, target_class)),
        heat=heat,
        odd=None if explanation.odd is None else explanation.odd[index],
        overlay=task.overlay,
        heatmap_file=heatmap_file,
        dicom=radiograph.dicom,
    )


def _refused(read: _Read, odd: str) -> ImageResult:
    error = refusal(printable(read.task.name), odd)
    return ImageResult(read.task, ODD_REASON, error, odd=odd, dicom=read.dicom)


def _unexpected(task: ImageTask, error: Exception, dicom: DicomFacts | None) -> ImageResult:
    """No file may take its batch with it, not even through a fault of ours."""
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    said = f"{printable(task.source)} cannot be processed: {cause}"
    return ImageResult(task, "unreadable", said, dicom=dicom)
