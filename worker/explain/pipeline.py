"""Many images through one explainer: reading, explaining and rendering of neighbouring batches overlap."""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from worker.errors import ImageError, StorageError
from worker.explain.feed import FeedProcesses, Place
from worker.explain.image_result import ImageResult as ImageResult
from worker.explain.image_result import ImageTask as ImageTask
from worker.explain.job import Job, ReadImage
from worker.explain.names import ALL, AUTO, PREDICTED
from worker.explain.options import ARGMAX_TARGET, ExplainOptions, Explanation
from worker.explain.outcome import explained, failed, heat_of, overlay_facts, refused
from worker.explain.overlay import draw, encode, heatmap_content, reduced, write_atomically
from worker.file_names import printable
from worker.images.dicom import DicomFacts
from worker.images.limits import LARGE_PIXELS, Limits, pixel_budget
from worker.images.preprocess import input_statistics, preprocess
from worker.images.reader import Radiograph, read_radiograph
from worker.odd_words import REFUSE
from worker.remote.folder import RemotePath
from worker.remote.read_ahead import read_ahead

if TYPE_CHECKING:
    from worker.explain.explainer import Explainer

HEATMAP_SUFFIX = ".npz"
_KEPT_BLOCKS = 16  # of 16 MB at most
# Decoded and not drawn yet, a byte each; as many as four batches of 16 images can have.
HELD_PIXELS = 64 * LARGE_PIXELS
# Files on their way to an object store; with 50 ms a request, of 2,500 images a second.
_UPLOADS = 128


@dataclass(frozen=True)
class _Pending:
    """An image that is being read or drawn, here or in another process."""

    future: Future[Any]
    task: ImageTask
    place: Place | None

    def result(self) -> Any:
        found = self.future.result()
        if self.place is None:
            return found
        if isinstance(found, ImageResult):
            return replace(found, task=self.task)
        return replace(found, task=self.task, place=self.place)


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


def _drawn(pending: _Pending) -> _Drawn:
    found = pending.result()
    return found if isinstance(found, _Drawn) else _Drawn(found)


class Pipeline:
    """Threads for reading and for rendering, kept between runs. The explainer runs in the calling thread.

    With several `processes` the threads are theirs, see `feed`.

    At most four batches of decoded images are held (one read ahead, one explained, two being rendered), or
    two images more for each thread where threads are many; and never more than HELD_PIXELS and one of
    LARGE_PIXELS for each thread.
    """

    # Processor time an image (2 cores, 512x512 PNG, 224 px, block_15_add; ms): read 2.0, resize 0.5,
    # explain 7.2 in batches of 8, 6.4 of 16, 6.1 of 64, render 1.6, encode 0.6, write 0.2. So 16, to which
    # the explainer fills batches up anyway, has most of what batching gives. With two threads a stage that
    # is alone at work, as at both ends of a run, still uses both cores.
    def __init__(
        self,
        readers: int = 2,
        renderers: int = 2,
        batch_size: int = 16,
        limits: Limits | None = None,
        *,
        processes: int = 1,
        share: int = 1,
    ) -> None:
        """`share`: of how many processes this is one, which hold HELD_PIXELS together."""
        self.batch_size = batch_size
        self._limits = limits or Limits()
        # Memory of a picture is kept for the next: asking the system anew costs as much as drawing on it.
        Image.core.set_blocks_max(_KEPT_BLOCKS)  # type: ignore[attr-defined] # in Pillow's handbook
        # While a batch is explained all threads are at work, and have one image more to begin at once.
        self._ahead, self._behind = 2 * readers, 2 * renderers
        self._most_held = HELD_PIXELS // share + (readers + renderers) * LARGE_PIXELS
        self._held, self._holding = 0, threading.RLock()
        pixel_budget.resize(max(readers, renderers, 2 if share == 1 else 1))
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="read")
        self._renderers = ThreadPoolExecutor(renderers, thread_name_prefix="render")
        self._feed: FeedProcesses | None = None
        if processes > 1:
            self._feed = FeedProcesses(processes, math.ceil(readers / processes), self._limits)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        """Wait for processes that are still starting, so that no image waits for them."""
        if self._feed is not None:
            self._feed.wait_until_ready()

    def close(self) -> None:
        """Stop the threads, after the files they are writing."""
        self._readers.shutdown(cancel_futures=True)
        self._renderers.shutdown(cancel_futures=True)
        if self._feed is not None:
            self._feed.close()

    def run(
        self,
        explainer: Explainer,
        items: Iterable[ImageTask],
        options: ExplainOptions,
        progress: Callable[[], None] | None = None,
        following: Callable[[], Iterable[ImageTask] | None] | None = None,
    ) -> Iterator[ImageResult]:
        """Explain `items`, which are taken as they are needed; exactly one outcome for each, in any order.

        A file that fails takes no other with it. `progress` is called after every batch, `following` for more
        items when those before are nearly all being read, until it returns None. Raises StorageError
        when a whole folder cannot be read or written now, ModelError for a class in `options.target`
        that the model does not know, XraycamError for marked areas that cannot be read, and whatever the
        explainer raises.
        """
        target = _target(explainer, options)
        job = Job(explainer, options)
        _ = job.marked
        if self._feed is not None:
            self._feed.begin(job.for_other_process())
        wanted = explainer.batch_size or self.batch_size
        batch_size = 1 if explainer.needs_per_channel_passes else wanted
        waiting = read_ahead(items, self._limits.max_bytes, following=following)
        reading: deque[_Pending] = deque()
        rendering: deque[_Pending] = deque()
        writing: deque[_Drawn] = deque()
        seen = 0  # the largest of the images so far that are held
        try:
            while True:
                batch: list[ReadImage] = []
                while len(batch) < batch_size:
                    held = len(batch) + len(reading)
                    room = min(
                        batch_size + max(batch_size, self._ahead) - held,
                        max(1, self._most_held // (seen or LARGE_PIXELS)) - held - len(rendering),
                    )
                    if room <= 0 and not held:
                        writing.append(_drawn(rendering.popleft()))
                        continue
                    for task in islice(waiting, max(0, room)):
                        reading.append(self._begin_to_read(job, task))
                    if not reading:
                        break
                    found = reading.popleft().result()
                    if isinstance(found, ImageResult):
                        yield found
                    else:
                        batch.append(found)
                        seen = max(seen, min(found.count, LARGE_PIXELS))
                if not batch:
                    break
                explanation = explainer.explain(
                    np.stack([read.pixels for read in batch]), np.full(len(batch), target, np.int32)
                )
                while len(rendering) > max(batch_size, self._behind):
                    writing.append(_drawn(rendering.popleft()))
                while writing and (len(writing) > _UPLOADS or writing[0].is_written):
                    yield writing.popleft().finish()
                for index, read in enumerate(batch):
                    if options.odd == REFUSE and explanation.odd is not None and explanation.odd[index]:
                        if self._feed is not None and read.place is not None:
                            self._feed.forget(read.place)
                        yield refused(read, explanation.odd[index])
                        continue
                    rendering.append(self._begin_to_draw(job, read, explanation, index))
                if progress is not None:
                    progress()
            while rendering:
                writing.append(_drawn(rendering.popleft()))
            while writing:
                yield writing.popleft().finish()
        finally:
            waiting.close()
            for pending in (*reading, *rendering):
                pending.future.cancel()
            if self._feed is not None:
                self._feed.forget_all()

    def _begin_to_read(self, job: Job, task: ImageTask) -> _Pending:
        # What is fetched ahead, and what is on its way to a store, stays in this process.
        is_remote = isinstance(task.source, RemotePath) or isinstance(task.overlay, RemotePath)
        if self._feed is None or is_remote:
            return _Pending(self.read(job, task), task, None)
        future, place = self._feed.read(task)
        return _Pending(future, task, place)

    def _begin_to_draw(self, job: Job, read: ReadImage, explanation: Explanation, index: int) -> _Pending:
        if self._feed is None or read.place is None:
            return _Pending(self.draw(job, read, explanation, index), read.task, None)
        return _Pending(self._feed.draw(read.place, explanation.of(index)), read.task, read.place)

    def read(self, job: Job, task: ImageTask) -> Future[ReadImage | ImageResult]:
        """Read an image in a thread of this process."""
        return self._readers.submit(self._read, job, task)

    def draw(
        self, job: Job, read: ReadImage, explanation: Explanation, index: int = 0
    ) -> Future[ImageResult | _Drawn]:
        """Draw and write an image in a thread of this process."""
        return self._renderers.submit(self._render, read, explanation, index, job)

    def _read(self, job: Job, task: ImageTask) -> ReadImage | ImageResult:
        preprocessing, accept = job.explainer.metadata.preprocessing, frozenset(job.options.accept)
        dicom: DicomFacts | None = None
        try:
            radiograph = read_radiograph(task.source, self._limits, task.read_root, accept)
            dicom = radiograph.dicom
            pixels = preprocess(radiograph, preprocessing)
            whole = radiograph.width * radiograph.height
            radiograph = reduced(radiograph, job.options.overlay_side)  # all that is drawn of it
            # Of large images only the network's input is held, and they are decoded again when they are
            # drawn: so what a pipeline holds is bounded (HELD_PIXELS).
            count = radiograph.pixels.width * radiograph.pixels.height
            if count > LARGE_PIXELS or not self._may_hold(radiograph, count):
                return ReadImage(task, radiograph.sha256, pixels, whole, None, dicom)
            return ReadImage(task, radiograph.sha256, pixels, count, radiograph, dicom)
        except ImageError as error:
            return ImageResult(task, error.reason, str(error), dicom=error.dicom or dicom)
        except StorageError:
            raise
        except Exception as error:
            return failed(task, error, dicom)

    def _may_hold(self, radiograph: Radiograph, count: int) -> bool:
        """Whether so many pixels more are held; they are until nothing refers to the radiograph."""
        with self._holding:
            if self._held + count > self._most_held:
                return False
            self._held += count
        weakref.finalize(radiograph, self._release, count).atexit = False
        return True

    def _release(self, count: int) -> None:
        with self._holding:
            self._held -= count

    def _render(
        self, read: ReadImage, explanation: Explanation, index: int, job: Job
    ) -> ImageResult | _Drawn:
        task, explainer, options = read.task, job.explainer, job.options
        preprocessing = explainer.metadata.preprocessing
        heatmaps = [(panel.label, explanation.heatmaps[panel.name][index]) for panel in explainer.panels]
        heatmap_file = task.overlay.with_suffix(HEATMAP_SUFFIX) if options.heatmaps else None
        try:
            with pixel_budget.taking(read.count * len(heatmaps)):
                radiograph = read.radiograph or self._read_again(read, frozenset(options.accept))
                area = (
                    None
                    if job.marked is None or isinstance(task.source, RemotePath)
                    else job.marked.of(task.source, (radiograph.width, radiograph.height))
                )
                heat = heat_of(explanation, index, explainer, area)
                result = explained(task, radiograph, explanation, index, explainer, heat, heatmap_file)
                facts = overlay_facts(result, explainer, options)
                outlined = area if options.outlines else None
                picture = draw(radiograph, heatmaps, preprocessing, options, facts, outlined)
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
            return ImageResult(task, error.reason, str(error), dicom=read.dicom)
        except StorageError:
            raise
        except Exception as error:
            return failed(task, error, read.dicom)
        brightness, contrast = input_statistics(read.pixels)
        result = replace(result, brightness=brightness, contrast=contrast)
        return _Drawn(result, tuple(uploads)) if uploads else result

    def _read_again(self, read: ReadImage, accept: frozenset[str]) -> Radiograph:
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
