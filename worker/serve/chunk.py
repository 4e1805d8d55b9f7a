"""One chunk's way: lease its rows, explain its images, record the results, all or none."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from db.leases import (
    Lease,
    PendingImage,
    Refusal,
    count_attempt,
    lease_chunk,
    record_results,
    release_lease,
    renew_lease,
)
from db.runs import Run, get_run
from db.workers import note_worker
from worker.errors import ImageError, XraycamError
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.overlay import SUFFIXES
from worker.explain.pipeline import HEATMAP_SUFFIX, Item, Outcome
from worker.file_names import on_disk, printable
from worker.logs import doing
from worker.safe_files import remove_unfinished
from worker.serve.context import Station
from worker.serve.guards import LeaseKeeper, Watchdog, watchdog

log = logging.getLogger(__name__)


class _LeaseLost(Exception):
    """Raised inside a chunk when going on would be work for nothing."""


def explain_chunk(station: Station, run_id: int, number: int) -> Refusal | None:
    """Explain what is pending in a chunk; None when done, else why there was nothing to do.

    Images that were in hand when an earlier worker died are done after the others and alone, each
    attempt counted before it starts, so that the one that takes workers down is found and given up.
    Raises XraycamError when the run's model or a folder cannot be used at present: the chunk is then free
    again, no attempt counts, and the worker's fault says why. Any other error is like the death of the
    worker: the lease stays ours, the attempts count, the chunk is to be tried again.
    """
    settings = station.settings
    lease = lease_chunk(station.ledger, run_id, number, station.name, settings.lease_seconds)
    if isinstance(lease, Refusal):
        return lease
    run = get_run(station.ledger, run_id)

    def renew() -> bool:
        return renew_lease(station.ledger, lease, station.name, settings.lease_seconds)

    # Three times per lease time, so that one renewal that is late does no harm.
    with LeaseKeeper(renew, settings.lease_seconds / 3, f"run {run_id} chunk {number}") as keeper:
        try:
            explainer = station.keeper.explainer_for(run)
            note_worker(
                station.ledger,
                station.name,
                doing=f"run {run_id}, chunk {number}",
                model_version=explainer.description.version,
                fault=station.keeper.fault,
            )
            chunk = _Chunk(station, run, lease, explainer, keeper)
            with watchdog(settings.image_seconds) as dog:
                chunk.do_together([image for image in lease.images if image.attempts == 0], dog)
                again = [image for image in lease.images if image.attempts > 0]
                chunk.clear_away(again)
                for image in again:
                    chunk.do_alone(image, dog)
        except _LeaseLost:
            log.warning("run %d chunk %d is no longer ours: cancelled, or taken over", run_id, number)
            release_lease(station.ledger, lease, station.name)
            return Refusal.CANCELLED
        except XraycamError as error:
            # Of the model or of a whole folder: no image is to blame.
            release_lease(station.ledger, lease, station.name)
            note_worker(station.ledger, station.name, fault=str(error))
            raise
    return None


class _Chunk:
    def __init__(
        self, station: Station, run: Run, lease: Lease, explainer: Explainer, keeper: LeaseKeeper
    ) -> None:
        self.station = station
        self.run = run
        self.lease = lease
        self.explainer = explainer
        self.keeper = keeper
        self.options = ExplainOptions.model_validate(run.options)
        # Without links, so that any link met below has been put there.
        self.root, self.output = Path(os.path.realpath(run.root)), Path(os.path.realpath(run.output))

    def do_together(self, images: list[PendingImage], dog: Watchdog) -> None:
        if images:
            rows = list(self._rows(images, attempts=1, dog=dog))
            record_results(self.station.ledger, self.lease, rows)

    def clear_away(self, images: list[PendingImage]) -> None:
        """Remove the unfinished files of a worker that died with these images in hand."""
        overlays = [self._overlay(image) for image in images]
        remove_unfinished(self.output, [*overlays, *(file.with_suffix(HEATMAP_SUFFIX) for file in overlays)])

    def do_alone(self, image: PendingImage, dog: Watchdog) -> None:
        limit = self.station.settings.attempts
        with doing(image=image.path):
            self._do_alone(image, dog, limit)

    def _do_alone(self, image: PendingImage, dog: Watchdog, limit: int) -> None:
        if image.attempts >= limit:
            row = {
                "image_id": image.id,
                "status": "failed",
                "reason": "killed-worker",
                "error": f"{image.path}: ended or hung its worker in {limit} attempts; look at the file "
                "with another program, and leave it out or save it again",
                "attempts": image.attempts,
            }
            log.warning("%s is given up after %d attempts", printable(image.path), image.attempts)
            record_results(self.station.ledger, self.lease, [self._with_origin(row)])
            return
        log.warning("%s is tried alone: a worker ended with it in hand", printable(image.path))
        attempts = count_attempt(self.station.ledger, image.id)
        record_results(self.station.ledger, self.lease, list(self._rows([image], attempts, dog)))

    def _rows(self, images: Iterable[PendingImage], attempts: int, dog: Watchdog) -> Iterator[dict[str, Any]]:
        def progress() -> None:
            dog.step()
            if self.keeper.lost:
                raise _LeaseLost

        items: list[Item] = []
        for image in images:
            try:
                items.append(self._item(image))
            except ImageError as error:
                yield self._failed(image.id, image.path, error.reason, str(error), attempts)
        for outcome in self.station.pipeline.run(self.explainer, items, self.options, progress):
            if outcome.reason is not None:
                item = outcome.item
                yield self._failed(item.image_id, item.name, outcome.reason, outcome.error or "", attempts)
            else:
                yield self._done(outcome, attempts)

    def _item(self, image: PendingImage) -> Item:
        """Where an image is read and written. Raises ImageError for a path that leaves the run's folders."""
        way = PurePosixPath(image.path)
        source = self.root
        if "\0" not in image.path:
            # Not Path.resolve, which raises for links in a circle.
            source = Path(os.path.realpath(self.root / on_disk(str(self.root), image.path)))
        if ".." in way.parts or way.is_absolute() or self.root not in source.parents:
            raise ImageError(
                "outside-root",
                f"{printable(image.path)}: lies outside {printable(self.run.root)}, where this run may read; "
                "enqueue the folder it is in",
            )
        return Item(image.id, source, self._overlay(image), image.path, self.root, self.output)

    def _overlay(self, image: PendingImage) -> Path:
        return self.output / (image.path + SUFFIXES[self.options.output_format])

    def _failed(self, image_id: int, path: str, reason: str, error: str, attempts: int) -> dict[str, Any]:
        log.info("failed: %s: %s", reason, error, extra={"image": path, "reason": reason})
        row = {
            "image_id": image_id,
            "status": "failed",
            "reason": reason,
            "error": error,
            "attempts": attempts,
        }
        return self._with_origin(row)

    def _done(self, outcome: Outcome, attempts: int) -> dict[str, Any]:
        row = {
            "image_id": outcome.item.image_id,
            "status": "done",
            "sha256": outcome.sha256,
            "width": outcome.width,
            "height": outcome.height,
            "class": outcome.predicted,
            "probability": outcome.probability,
            "probabilities": outcome.probabilities,
            "explained_class": outcome.explained,
            "score": outcome.score,
            "heatmap_max": outcome.heatmap_max,
            "blank": outcome.blank,
            "heat_border": None if outcome.heat is None else outcome.heat.border,
            "heat_corner": None if outcome.heat is None else outcome.heat.corner,
            "heat_marked": None if outcome.heat is None else outcome.heat.marked,
            "overlay": None if outcome.overlay is None else str(outcome.overlay),
            "heatmap": None if outcome.heatmap_file is None else str(outcome.heatmap_file),
            "attempts": attempts,
        }
        return self._with_origin(row)

    def _with_origin(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {
            "layer": ",".join(self.explainer.layers),
            "method": ",".join(method.name for method in self.explainer.methods),
            "model_version": self.explainer.description.version,
            "worker": self.station.name,
        }
