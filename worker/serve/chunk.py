"""One chunk's way: lease its rows, explain its images, record the results, all or none."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from db.errors import LedgerError
from db.leases import (
    Lease,
    LeaseDenied,
    PendingImage,
    increment_attempts,
    lease_chunk,
    record_results,
    release_lease,
    renew_lease,
)
from db.runs import Run
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
from worker.queue.startup import WorkerBroken
from worker.remote.calls import DEADLINE
from worker.remote.folder import RemoteFolder, RemotePath, place_of
from worker.remote.urls import UNSAFE, is_safe_key
from worker.safe_files import remove_temp_files
from worker.serve.context import WorkerContext
from worker.serve.guards import LeaseRenewer, Watchdog, watchdog
from worker.serve.identity import identity_columns, load_identity_key

log = logging.getLogger(__name__)


class _LeaseLost(Exception):
    """Raised inside a chunk when more work would be for nothing."""


def explain_chunk(station: WorkerContext, run_id: int, number: int) -> LeaseDenied | None:
    """Explain what is pending in a chunk; None when done, else why there was nothing to do.

    Images that an earlier worker had begun when it died are done after the others and alone, each
    attempt counted before it starts, so that the one that takes workers down is found and given up.
    Raises XraycamError when the run's model or a folder cannot be used now: the chunk is then free
    again, no attempt counts, and the worker's fault says why. Any other error is like the death of the
    worker: the lease stays ours, the attempts count, the chunk is to be tried again.
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
    run = lease.run

    def renew() -> bool:
        return station.ledger.write(renew_lease, lease, station.name, settings.lease_timeout)

    # Three times per lease time, so that one renewal that is late does no harm.
    with LeaseRenewer(renew, settings.lease_timeout / 3, f"run {run_id} chunk {number}") as renewer:
        try:
            explainer = station.models.explainer_for(run, lease.model)
            station.ledger.write(
                update_worker,
                station.name,
                activity=f"run {run_id}, chunk {number}",
                model_version=explainer.metadata.version,
                last_error=station.models.last_error,
            )
            chunk = _Chunk(station, run, lease, explainer, renewer)
            with watchdog(settings.image_timeout) as watchdog_timer:
                chunk.process_batch([image for image in lease.images if image.attempts == 0], watchdog_timer)
                again = [image for image in lease.images if image.attempts > 0]
                chunk.remove_leftovers(again)
                for image in again:
                    chunk.process_isolated(image, watchdog_timer)
        except _LeaseLost:
            log.warning("run %d chunk %d is no longer ours: cancelled, or taken over", run_id, number)
            station.ledger.write(release_lease, lease, station.name)
            return LeaseDenied.CANCELLED
        except XraycamError as error:
            # Of the model or of a whole folder: no image is to blame.
            station.ledger.write(release_lease, lease, station.name)
            station.ledger.write(update_worker, station.name, last_error=str(error))
            raise
        finally:
            station.models.end_chunk()
            # Idle until the next chunk; a ledger that is away has other words to say than this.
            with suppress(LedgerError):
                station.ledger.write(update_worker, station.name, activity=None)
    return None


class _Chunk:
    def __init__(
        self, station: WorkerContext, run: Run, lease: Lease, explainer: Explainer, renewer: LeaseRenewer
    ) -> None:
        self.station = station
        self.run = run
        self.lease = lease
        self.explainer = explainer
        self.renewer = renewer
        self.options = ExplainOptions.model_validate(run.options)
        # Without links, so that any link met below has been put there.
        self.root, self.output = self._place(run.root), self._place(run.output)

    def _place(self, given: str) -> Path | RemoteFolder:
        place = place_of(given)
        if isinstance(place, Path):
            return Path(os.path.realpath(place))
        # The watchdog is to outlast a storage that is away.
        place.deadline = min(DEADLINE, self.station.settings.image_timeout / 4)
        return place

    def process_batch(self, images: list[PendingImage], watchdog_timer: Watchdog) -> None:
        if images:
            rows = list(self._rows(images, attempts=1, watchdog_timer=watchdog_timer))
            self.station.ledger.write(record_results, self.lease, rows)

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
            self.station.ledger.write(record_results, self.lease, [self._with_provenance(row)])
            return
        log.warning("%s is retried singly after a worker crash", printable(image.path))
        attempts = self.station.ledger.write(increment_attempts, image.id)
        self.station.ledger.write(
            record_results, self.lease, list(self._rows([image], attempts, watchdog_timer))
        )

    def _rows(
        self, images: Iterable[PendingImage], attempts: int, watchdog_timer: Watchdog
    ) -> Iterator[dict[str, Any]]:
        def progress() -> None:
            watchdog_timer.step()
            if self.renewer.lost:
                raise _LeaseLost

        items: list[ImageTask] = []
        for image in images:
            try:
                items.append(self._item(image))
            except ImageError as error:
                yield self._failed(image.id, image.path, error.reason, str(error), attempts)
        for result in self.station.pipeline.run(self.explainer, items, self.options, progress):
            if result.reason is not None:
                task = result.task
                row = self._failed(task.image_id, task.name, result.reason, result.error or "", attempts)
                yield row | self._identity(result) | {"odd": result.odd}
            else:
                yield self._done(result, attempts)

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
