"""One chunk's way: lease its rows, explain its images, record the results, all or none."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from db.errors import LedgerError
from db.leases import Lease, LeaseDenied, PendingImage, increment_attempts, lease_chunk
from db.workers import update_worker
from worker.errors import ImageError, XraycamError
from worker.explain.decision import decision
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.overlay import SUFFIXES
from worker.explain.pipeline import HEATMAP_SUFFIX, ImageResult, ImageTask
from worker.file_names import fitting_path, printable, unescape_path
from worker.images.archive import member_path, split_member_path
from worker.images.remote_archive import remote_source
from worker.logs import log_context
from worker.queue.startup import WorkerBroken, is_shutting_down
from worker.remote.calls import DEADLINE
from worker.remote.folder import RemoteFolder, RemotePath, place_of
from worker.remote.urls import UNSAFE, is_safe_key
from worker.safe_files import remove_temp_files
from worker.serve.context import WorkerContext
from worker.serve.guards import LeaseRenewer, Watchdog, watchdog
from worker.serve.held_leases import HeldLeases
from worker.serve.identity import identity_columns, load_identity_key

log = logging.getLogger(__name__)

# For how long one message may begin further chunks. Other runs, a shutdown and a new model come before.
CONTINUE_SECONDS = 60.0


class _LeaseLost(Exception):
    """Raised inside a chunk when more work would be for nothing."""


def explain_chunk(station: WorkerContext, run_id: int, number: int) -> LeaseDenied | None:
    """Explain what is pending in a chunk; None when done, else why there was nothing to do.

    Images that an earlier worker had begun when it died are done after the others and alone, each
    attempt counted before it starts, so that the one that takes workers down is found and given up.
    Raises XraycamError when the run's model or a folder cannot be used now: the chunk is then free
    again, no attempt counts, and the worker's fault says why. Any other error is like the death of the
    worker: the lease stays ours, the attempts count, the chunk is to be tried again.

    Where images or overlays are remote, the run's next chunk is begun before the last images of this one are
    written: else each chunk would wait for the network at both its ends.
    """
    settings = station.settings
    try:
        lease = station.ledger.write(lease_chunk, run_id, number, station.name, settings.lease_timeout)
    except LedgerError:
        raise
    except Exception as error:
        # No attempt of an image counts yet, so that nothing else would end this.
        raise WorkerBroken(f"no chunk can be leased: {type(error).__name__}: {error}") from error
    if isinstance(lease, LeaseDenied):
        return lease
    held = HeldLeases(station.ledger, station.name, settings.lease_timeout, lease)
    stop_at = time.monotonic() + CONTINUE_SECONDS
    # Three times per lease time, so that one renewal that is late does no harm.
    with LeaseRenewer(held.renew, settings.lease_timeout / 3, f"run {run_id} chunk {number}") as renewer:
        try:
            following: Lease | None = lease
            while following is not None:
                explainer = station.models.explainer_for(following.run, following.model)
                chunk = _Chunk(station, following, explainer, renewer, held, stop_at)
                chunk.announce()
                with watchdog(settings.image_timeout) as watchdog_timer:
                    following = chunk.process(watchdog_timer)
        except _LeaseLost:
            log.warning("run %d chunk %d is no longer ours: cancelled, or taken over", run_id, number)
            held.release()
            return LeaseDenied.CANCELLED
        except XraycamError as error:
            # Of the model or of a whole folder: no image is to blame.
            held.release()
            station.ledger.write(update_worker, station.name, last_error=str(error))
            raise
        finally:
            station.models.end_chunk()
            # Idle until the next chunk; a ledger that is away has other words to say than this.
            with suppress(LedgerError):
                station.ledger.write(update_worker, station.name, activity=None)
    return None


class _Chunk:
    """A chunk, and those of the same run that are begun before it is done."""

    def __init__(
        self,
        station: WorkerContext,
        lease: Lease,
        explainer: Explainer,
        renewer: LeaseRenewer,
        held: HeldLeases,
        stop_at: float,
    ) -> None:
        self.station = station
        self.run = lease.run
        self.lease = lease  # the last of those begun
        self.explainer = explainer
        self.renewer = renewer
        self.held = held
        self.stop_at = stop_at
        self.options = ExplainOptions.model_validate(self.run.options)
        # Without links, so that any link met below has been put there.
        self.root, self.output = self._place(self.run.root), self._place(self.run.output)
        # By image, the chunk it belongs to; by chunk, the rows so far.
        self.lease_of: dict[int, Lease] = {}
        self.rows: dict[int, list[dict[str, Any]]] = {}
        self.next: Lease | None = None

    def _place(self, given: str) -> Path | RemoteFolder:
        place = place_of(given)
        if isinstance(place, Path):
            return Path(os.path.realpath(place))
        # The watchdog is to outlast a storage that is away.
        place.deadline = min(DEADLINE, self.station.settings.image_timeout / 4)
        return place

    def announce(self) -> None:
        """Say in the ledger what this worker does."""
        self.station.ledger.write(
            update_worker,
            self.station.name,
            activity=f"run {self.run.id}, chunk {self.lease.number}",
            model_version=self.explainer.metadata.version,
            last_error=self.station.models.last_error,
        )

    def process(self, watchdog_timer: Watchdog) -> Lease | None:
        """Explain all images; a chunk that was leased meanwhile and not begun."""
        first = self.lease
        again = [image for image in first.images if image.attempts > 0]
        # Images that may take the worker down are alone in its hands.
        self._process_batch(first, watchdog_timer, may_continue=not again)
        self.remove_leftovers(again)
        for image in again:
            self.process_isolated(image, watchdog_timer)
        return self.next

    def _process_batch(self, first: Lease, watchdog_timer: Watchdog, *, may_continue: bool) -> None:
        def following() -> list[ImageTask] | None:
            return self._tasks(self.lease) if self._continues() else None

        is_remote = isinstance(self.root, RemoteFolder) or isinstance(self.output, RemoteFolder)
        results = self.station.pipeline.run(
            self.explainer,
            self._tasks(first),
            self.options,
            self._progress(watchdog_timer),
            following if may_continue and is_remote else None,
        )
        for result in results:
            self._add(result)

    def _continues(self) -> bool:
        """Whether the next chunk was begun."""
        if time.monotonic() > self.stop_at or is_shutting_down():
            return False
        try:
            lease = self.held.take_following()
        except LedgerError:
            return False  # the rows so far are recorded once they can be
        if lease is None:
            return False
        explainer = self.station.models.explainer_for(lease.run, lease.model)
        if explainer is not self.explainer or any(image.attempts for image in lease.images):
            self.next = lease
            return False
        self.lease = lease
        self.announce()
        return True

    def _tasks(self, lease: Lease) -> list[ImageTask]:
        """What is to be done of a chunk that nobody has tried yet."""
        tasks, failed = [], []
        for image in lease.images:
            if image.attempts:
                continue
            self.lease_of[image.id] = lease
            try:
                tasks.append(self._item(image))
            except ImageError as error:
                failed.append(self._failed(image.id, image.path, error.reason, str(error), attempts=1))
        for row in failed:
            self._add_row(row)
        return tasks

    def _add(self, result: ImageResult) -> None:
        with log_context(chunk=self.lease_of[result.task.image_id].number):
            self._add_row(self._row(result, attempts=1))

    def _add_row(self, row: dict[str, Any]) -> None:
        """Keep a row; its chunk's are recorded, all or none, once they are complete."""
        lease = self.lease_of.pop(row["image_id"])
        rows = self.rows.setdefault(lease.number, [])
        rows.append(row)
        if len(rows) == sum(image.attempts == 0 for image in lease.images):
            self.held.record(lease, rows, is_last=len(rows) == len(lease.images))
            del self.rows[lease.number]

    def remove_leftovers(self, images: list[PendingImage]) -> None:
        """Remove the unfinished files of a worker that died at these images."""
        if isinstance(self.output, RemoteFolder):
            return  # an object is written whole
        overlays = [self.output / self._overlay_name(image) for image in images]
        remove_temp_files(self.output, [*overlays, *(file.with_suffix(HEATMAP_SUFFIX) for file in overlays)])

    def process_isolated(self, image: PendingImage, watchdog_timer: Watchdog) -> None:
        limit = self.station.settings.max_attempts
        with log_context(image=image.path):
            self._process_isolated(image, watchdog_timer, limit)

    def _process_isolated(self, image: PendingImage, watchdog_timer: Watchdog, limit: int) -> None:
        if image.attempts >= limit:
            row = {
                "image_id": image.id,
                "status": "failed",
                "reason": "crashed-worker",
                "error": f"{image.path}: ended or hung its worker in {limit} attempts; look at the file "
                "with another program, and leave it out or save it again",
                "attempts": image.attempts,
            }
            log.warning("%s is given up after %d attempts", printable(image.path), image.attempts)
            self._record(image, [self._with_provenance(row)])
            return
        log.warning("%s is retried singly after a worker crash", printable(image.path))
        attempts = self.station.ledger.write(increment_attempts, image.id)
        self._record(image, [self._row_alone(image, attempts, watchdog_timer)])

    def _record(self, image: PendingImage, rows: list[dict[str, Any]]) -> None:
        self.held.record(self.lease, rows, is_last=image is self.lease.images[-1])

    def _row_alone(self, image: PendingImage, attempts: int, watchdog_timer: Watchdog) -> dict[str, Any]:
        try:
            task = self._item(image)
        except ImageError as error:
            return self._failed(image.id, image.path, error.reason, str(error), attempts)
        (result,) = self.station.pipeline.run(
            self.explainer, [task], self.options, self._progress(watchdog_timer)
        )
        return self._row(result, attempts)

    def _progress(self, watchdog_timer: Watchdog) -> Callable[[], None]:
        def progress() -> None:
            watchdog_timer.step()
            if self.renewer.lost:
                raise _LeaseLost

        return progress

    def _row(self, result: ImageResult, attempts: int) -> dict[str, Any]:
        if result.reason is None:
            return self._done(result, attempts)
        task = result.task
        row = self._failed(task.image_id, task.name, result.reason, result.error or "", attempts)
        return row | self._identity(result) | {"odd": result.odd}

    def _item(self, image: PendingImage) -> ImageTask:
        """Where an image is read and written. Raises ImageError for a path that leaves the run's folders."""
        write_root = self.output if isinstance(self.output, Path) else None
        if isinstance(self.root, RemoteFolder):
            if not is_safe_key(image.path):
                shown = printable(self.root.file(image.path))
                raise ImageError("outside-root", f"{shown}: {UNSAFE}; give it another key")
            remote = remote_source(self.root, image.path, image.size)
            return ImageTask(image.id, remote, self._overlay(image), image.path, None, write_root)
        way = PurePosixPath(image.path)
        source = self.root
        if "\0" not in image.path:
            path = unescape_path(str(self.root), image.path)
            archive, member = split_member_path(path, self.root) or (path, None)
            # Not Path.resolve, which raises for links in a circle.
            source = Path(os.path.realpath(self.root / archive))
            if member is not None and str(PurePosixPath(member)) == member and member[0] != "/":
                source = Path(member_path(str(source), member))
            elif member is not None:
                source = self.root  # a name that leads out of its archive
        if ".." in way.parts or way.is_absolute() or self.root not in source.parents:
            raise ImageError(
                "outside-root",
                f"{printable(image.path)}: lies outside {printable(self.run.root)}, where this run may read; "
                "enqueue the folder it is in",
            )
        return ImageTask(image.id, source, self._overlay(image), image.path, self.root, write_root)

    def _overlay_name(self, image: PendingImage) -> str:
        return fitting_path(image.path, SUFFIXES[self.options.output_format])

    def _overlay(self, image: PendingImage) -> Path | RemotePath:
        name = self._overlay_name(image)
        return self.output.file(name) if isinstance(self.output, RemoteFolder) else self.output / name

    def _failed(self, image_id: int, path: str, reason: str, error: str, attempts: int) -> dict[str, Any]:
        log.info("failed: %s: %s", reason, error, extra={"image": path, "reason": reason})
        row = {
            "image_id": image_id,
            "status": "failed",
            "reason": reason,
            "error": error,
            "attempts": attempts,
        }
        return self._with_provenance(row)

    def _done(self, result: ImageResult, attempts: int) -> dict[str, Any]:
        row = {
            "image_id": result.task.image_id,
            "status": "done",
            "sha256": result.sha256,
            "width": result.width,
            "height": result.height,
            "class": result.predicted,
            "probability": result.probability,
            "probabilities": result.probabilities,
            "score": result.score,
            "brightness": result.brightness,
            "contrast": result.contrast,
            "target_class": result.target_class,
            "logit": result.logit,
            "heatmap_max": result.heatmap_max,
            "blank": result.blank,
            "odd": result.odd,
            "cam_border_fraction": None if result.heat is None else result.heat.border,
            "cam_corner_fraction": None if result.heat is None else result.heat.corner,
            "cam_mask_fraction": None if result.heat is None else result.heat.marked,
            "overlay": None if result.overlay is None else str(result.overlay),
            "heatmap": None if result.heatmap_file is None else str(result.heatmap_file),
            "attempts": attempts,
        }
        return self._with_provenance(row | self._identity(result))

    def _identity(self, result: ImageResult) -> dict[str, Any]:
        """What is kept of the header of a DICOM file, explained or refused."""
        if result.dicom is None:
            return {}
        key = load_identity_key(self.station.settings)
        return identity_columns(result.dicom, key, keep_age_sex=self.options.keep_age_sex)

    def _with_provenance(self, row: dict[str, Any]) -> dict[str, Any]:
        decided = decision(row.get("score"), self.options.threshold, row.get("odd"))
        return row | {
            "threshold": self.options.threshold,
            "decision": decided,
            "layer": ",".join(self.explainer.layers),
            "method": ",".join(method.name for method in self.explainer.methods),
            "model_version": self.explainer.metadata.version,
            "worker": self.station.name,
        }
