"""From a folder to a run in the ledger: checked before anything is written, streamed, in bulk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from db.deletion import delete_run
from db.gone_files import IdSet, last_image, mark_gone
from db.ingest import IngestStats, RunIngest, ScannedFile, compare_files
from db.ledger import Ledger
from db.models import get_model
from db.runs import Run, find_run, open_run, request_hash
from producer.gone_files import gone_images
from producer.run_place import check_place, ensure_place, make_run_place
from producer.scan import Folder, ScanCounts, resolve_folder, scan
from producer.thresholds import with_threshold
from worker.errors import XraycamError
from worker.explain.names import ALL, AUTO, PREDICTED
from worker.explain.options import ExplainOptions
from worker.file_names import escape_path, printable
from worker.images.masks import MaskMatches, load_masks
from worker.model.metadata import read_metadata
from worker.model.store import ensure_current_model, store_of
from worker.remote.folder import RemoteFolder
from worker.settings import Settings

T = TypeVar("T")

BATCH = 5000


@dataclass(frozen=True)
class Request:
    """What a person asked to be explained, and how."""

    folder: Path | RemoteFolder
    options: ExplainOptions = field(default_factory=ExplainOptions)
    model: str | None = None
    globs: Sequence[str] = ()
    force: bool = False
    output: Path | RemoteFolder | None = None
    operating_point: str | None = None


@dataclass(frozen=True)
class Enqueued:
    run: Run
    is_new: bool
    scanned: ScanCounts
    ingested: IngestStats
    masks: MaskMatches | None = None
    gone: int = 0  # images of the run whose files were deleted since an earlier scan


def check_request(ledger: Ledger, settings: Settings, request: Request) -> tuple[Folder, str, ExplainOptions]:
    """The folder, the model version and the options of a request, with the threshold that it asks for and
    what its masks mark.

    Raises for whatever cannot be done.
    """
    folder = resolve_folder(request.folder)
    if request.options.masks is not None and isinstance(folder.root, RemoteFolder):
        raise XraycamError(
            f"--masks is not possible with {printable(folder.root)}; copy the images to a folder and name "
            "that"
        )
    place = output_folder(settings, request)
    if isinstance(place, RemoteFolder) and place == folder.root:
        raise XraycamError(
            f"--output {printable(place)} is the folder of the images: overlays would be taken for images "
            "the next time; name another prefix"
        )
    check_place(place)
    store = store_of(settings)
    current = ensure_current_model(ledger, store)
    model = current if request.model is None else ledger.query(get_model, request.model)
    description = read_metadata(store.fetch(model.version, model.digest))
    for layer in request.options.layers:
        if layer != AUTO:
            description.require_layer(layer)
    if request.options.target not in (AUTO, PREDICTED, ALL):
        description.require_class(request.options.target)
    options = request.options
    if options.masks is not None:
        options = options.model_copy(update={"masks_digest": load_masks(Path(options.masks)).digest})
    return (
        folder,
        model.version,
        with_threshold(ledger, options, request.operating_point, description),
    )


def output_folder(settings: Settings, request: Request) -> Path | RemoteFolder:
    place = request.output or settings.overlays
    return place.expanduser().absolute() if isinstance(place, Path) else place


def scan_request(
    settings: Settings, request: Request, folder: Folder, counts: ScanCounts
) -> Iterator[ScannedFile]:
    """The files of a request; our own folders are left out where they lie inside."""
    place = output_folder(settings, request)
    ours = [place.resolve() if isinstance(place, Path) else place, settings.home.resolve()]
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
    folder, version, options = check_request(ledger, settings, request)
    masks = match_masks(settings, request, folder)
    counts = ScanCounts()
    files = scan_request(settings, request, folder, counts)
    first = list(islice(files, BATCH))
    if not first:
        raise XraycamError(nothing_found(request.folder, counts))
    ensure_place(output_folder(settings, request))
    run, is_new = _open_run(
        ledger,
        **_identity(settings, request, folder, version, options),
        chunk_size=settings.chunk_size,
        force=request.force,
    )
    intake = RunIngest(ledger, run, is_new=is_new)
    intake.add(first)
    for batch in _batches(files, BATCH):
        if on_progress is not None:
            on_progress(counts.found)
        intake.add(batch)
    gone = 0
    for keys in gone_images(ledger, run.id, run.root, intake.seen, intake.last_before):
        ledger.write(mark_gone, keys)
        gone += len(keys)
    intake.close()
    return Enqueued(run, is_new, counts, intake.counts, masks, gone)


def _identity(
    settings: Settings, request: Request, folder: Folder, version: str, options: ExplainOptions
) -> dict[str, Any]:
    """What tells a request's run from others, as `open_run` and `request_hash` take it."""
    selection: dict[str, Any] = {} if folder.only is None else {"only": escape_path(folder.only)}
    if request.globs:
        selection["globs"] = sorted(set(request.globs))
    return {
        "root": str(folder.root),
        "output": str(output_folder(settings, request)),
        "selection": selection or None,
        "options": options.model_dump(mode="json"),
        "model_version": version,
        # A threshold belongs to its version: no other may take over in the middle of the run.
        "pinned": request.model is not None or options.threshold is not None,
    }


def _open_run(ledger: Ledger, **request: Any) -> tuple[Run, bool]:
    """As `open_run`; the folder of a new run is made here and belongs to no run of another ledger, which
    may count its runs below the same output folder."""
    while True:
        run, is_new = ledger.write(open_run, **request)
        if not is_new:
            return run, False
        try:
            make_run_place(run)
        except FileExistsError:
            ledger.write(delete_run, run.id)  # its number is not used again
        except OSError as error:
            ledger.write(delete_run, run.id)
            raise XraycamError(
                f"{run.output} cannot be made: {error.strerror}; check the output folder and try again"
            ) from error
        except XraycamError:
            ledger.write(delete_run, run.id)
            raise
        else:
            return run, True


@dataclass(frozen=True)
class Preview:
    """What `enqueue` would do. `run`: that which would be continued; None: a new one. `size`: bytes of all
    files found; `chunks`: how many would be sent."""

    folder: Folder
    version: str
    run: Run | None
    scanned: ScanCounts
    found: IngestStats
    size: int
    chunks: int
    masks: MaskMatches | None
    gone: int
    threshold: float | None


def preview(ledger: Ledger, settings: Settings, request: Request) -> Preview:
    """What `enqueue` would find and do, changing nothing. Raises as it does."""
    folder, version, asked = check_request(ledger, settings, request)
    masks = match_masks(settings, request, folder)
    with ledger.read() as connection:
        run = find_run(connection, request_hash(**_identity(settings, request, folder, version, asked)))
        run = None if request.force else run
        last = 0 if run is None else last_image(connection, run.id)
    counts, found, seen, size = ScanCounts(), IngestStats(), IdSet(), 0
    for batch in _batches(scan_request(settings, request, folder, counts), BATCH):
        size += sum(file.size for file in batch)
        if run is None:
            found.new += len(batch)
            continue
        known = ledger.query(compare_files, run.id, batch)
        seen.update(known.seen)
        found.new += len(known.new)
        found.unchanged += known.counts.unchanged
        found.changed += known.counts.changed
        found.retried += known.counts.retried
        found.pending += known.counts.pending
    if not counts.found:
        raise XraycamError(nothing_found(request.folder, counts))
    gone = 0
    if run is not None:
        gone = sum(len(keys) for keys in gone_images(ledger, run.id, run.root, seen, last))
    chunk_size = settings.chunk_size if run is None else run.chunk_size
    chunks = -(-(found.new + found.changed + found.retried + found.pending) // chunk_size)
    return Preview(folder, version, run, counts, found, size, chunks, masks, gone, asked.threshold)


def match_masks(settings: Settings, request: Request, folder: Folder) -> MaskMatches | None:
    """Which images have a mask, before any is enqueued. Raises XraycamError if none has."""
    if request.options.masks is None:
        return None
    marked = load_masks(Path(request.options.masks))
    counts = ScanCounts()
    files = scan_request(settings, request, folder, counts)
    matches = MaskMatches(marked)
    first_of: dict[str, str] = {}  # no more than there are masks
    for file in files:
        image = Path(str(folder.root)) / file.path
        if not matches.add(image):
            continue
        if marked.matches_by_name_alone(image) and first_of.setdefault(image.name, file.path) != file.path:
            raise XraycamError(
                f"--masks {request.options.masks}: one mask is named as both {first_of[image.name]} and "
                f"{file.path}; put masks into the same sub-folders as the images"
            )
    if counts.found and not matches.matched:
        raise XraycamError(
            f"--masks {request.options.masks}: matches none of the {counts.found} images of {folder.root}; "
            "name masks as the images, in the same sub-folders where names repeat"
        )
    return matches


def nothing_found(folder: Path | RemoteFolder, counts: ScanCounts) -> str:
    """Why a folder gave no image, in one line."""
    if counts.skipped:
        words = "; ".join(counts.lines())
        return f"{folder} holds no image (.png, .jpg, .tif, DICOM, ...); {words}"
    return f"{folder} holds no image (.png, .jpg, .tif, DICOM, ...); name a folder with radiographs"


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
