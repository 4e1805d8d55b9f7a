"""From a folder to a run in the ledger: checked before anything is written, streamed, in bulk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from db.ingest import IngestStats, RunIngest, ScannedFile
from db.ledger import Ledger
from db.models import get_model
from db.runs import Run, open_run
from producer.scan import Folder, ScanCounts, resolve_folder, scan
from producer.session import ensure_output_dir
from worker.errors import XraycamError
from worker.explain.names import ALL, AUTO, PREDICTED
from worker.explain.options import ExplainOptions
from worker.images.masks import load_masks
from worker.model.metadata import read_metadata
from worker.model.store import ensure_current_model, store_of
from worker.settings import Settings

T = TypeVar("T")

BATCH = 5000


@dataclass(frozen=True)
class Request:
    """What a person asked to be explained, and how."""

    folder: Path
    options: ExplainOptions = field(default_factory=ExplainOptions)
    model: str | None = None
    globs: Sequence[str] = ()
    force: bool = False
    output: Path | None = None


@dataclass(frozen=True)
class Enqueued:
    run: Run
    is_new: bool
    scanned: ScanCounts
    ingested: IngestStats
    masks_matched: int | None = None


def check_request(ledger: Ledger, settings: Settings, request: Request) -> tuple[Folder, str]:
    """The folder and the model version of a request. Raises for whatever cannot be done."""
    folder = resolve_folder(request.folder)
    ensure_output_dir(output_folder(settings, request))
    store = store_of(settings)
    current = ensure_current_model(ledger, store)
    model = current if request.model is None else get_model(ledger, request.model)
    description = read_metadata(store.fetch(model.version, model.digest))
    for layer in request.options.layers:
        if layer != AUTO:
            description.require_layer(layer)
    if request.options.target not in (AUTO, PREDICTED, ALL):
        description.require_class(request.options.target)
    if request.options.masks is not None:
        load_masks(Path(request.options.masks))
    return folder, model.version


def output_folder(settings: Settings, request: Request) -> Path:
    return (request.output or settings.overlays).expanduser().absolute()


def scan_request(
    settings: Settings, request: Request, folder: Folder, counts: ScanCounts
) -> Iterator[ScannedFile]:
    """The files of a request; our own folders are left out where they lie inside."""
    ours = [output_folder(settings, request).resolve(), settings.home.resolve()]
    return scan(folder, counts, globs=request.globs, exclude=ours)


def enqueue(
    ledger: Ledger,
    settings: Settings,
    request: Request,
    on_progress: Callable[[int], None] | None = None,
) -> Enqueued:
    """Take a folder into the ledger as a run; messages are sent afterwards, by `publish_chunks`.

    Raises XraycamError when the folder holds no image.
    """
    folder, version = check_request(ledger, settings, request)
    masks_matched = _masks_matched(settings, request, folder)
    counts = ScanCounts()
    files = scan_request(settings, request, folder, counts)
    first = list(islice(files, BATCH))
    if not first:
        raise XraycamError(nothing_found(request.folder, counts))
    run, is_new = open_run(
        ledger,
        root=str(folder.root),
        output=str(output_folder(settings, request)),
        options=request.options.model_dump(mode="json"),
        model_version=version,
        pinned=request.model is not None,
        chunk_size=settings.chunk_size,
        force=request.force,
    )
    intake = RunIngest(ledger, run, is_new=is_new)
    intake.add(first)
    for batch in _batches(files, BATCH):
        if on_progress is not None:
            on_progress(counts.found)
        intake.add(batch)
    intake.close()
    return Enqueued(run, is_new, counts, intake.counts, masks_matched)


def _masks_matched(settings: Settings, request: Request, folder: Folder) -> int | None:
    """How many images have a mask, before any is enqueued. Raises XraycamError if none has."""
    if request.options.masks is None:
        return None
    marked = load_masks(Path(request.options.masks))
    counts = ScanCounts()
    files = scan_request(settings, request, folder, counts)
    matched = 0
    first_of: dict[str, str] = {}  # no more than there are masks
    for file in files:
        image = folder.root / file.path
        if not marked.has_mask_for(image):
            continue
        matched += 1
        if marked.matches_by_name_alone(image) and first_of.setdefault(image.name, file.path) != file.path:
            raise XraycamError(
                f"--masks {request.options.masks}: one mask is named as both {first_of[image.name]} and "
                f"{file.path}; put masks into the same sub-folders as the images"
            )
    if counts.found and not matched:
        raise XraycamError(
            f"--masks {request.options.masks}: matches none of the {counts.found} images of {folder.root}; "
            "name masks as the images, in the same sub-folders where names repeat"
        )
    return matched


def nothing_found(folder: Path, counts: ScanCounts) -> str:
    """Why a folder gave no image, in one line."""
    if counts.skipped:
        words = "; ".join(counts.lines())
        return f"{folder} holds no image (.png, .jpg, .tif, DICOM, ...); {words}"
    return f"{folder} holds no image (.png, .jpg, .tif, DICOM, ...); name a folder with radiographs"


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
