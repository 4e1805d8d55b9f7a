"""What readers said of a run, as a labelled folder that `train` takes, or as CSV."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from db.reviews import Review, read_reviews
from db.runs import Run
from producer.session import Session, ensure_output_file
from producer.viewer.thumbnails import RunPictures
from worker.errors import XraycamError
from worker.file_names import printable
from worker.images.archive import SEPARATOR
from worker.images.reader import limits_of
from worker.remote.folder import RemoteFolder, RemotePath
from worker.remote.urls import refuse_url

COLUMNS = ("path", "class", "readers", "predicted", "notes", "reviewed_at")


def export_labels(
    session: Session, run: Run, output: Path, *, reader: str | None = None, copy: bool = False
) -> Iterator[str]:
    """Write the images on whose class all readers agree; yields lines that say what was written and left out.

    Raises XraycamError where nothing was reviewed, or `output` exists or cannot be written.
    """
    with session.ledger.read() as connection:
        found = list(read_reviews(connection, run.id, reader))
    if not found:
        who = "nobody" if reader is None else f"{reader!r} has not"
        raise XraycamError(f"run {run.id}: {who} reviewed an image yet; 'xraycam serve' opens it for review")
    by_image: dict[int, list[Review]] = {}
    for one in found:
        if not one.is_outdated:
            by_image.setdefault(one.image_id, []).append(one)
    agreed: list[tuple[str, list[Review]]] = []
    left_out: Counter[str] = Counter()
    outdated = {one.image_id for one in found if one.is_outdated} - by_image.keys()
    if outdated:
        left_out["the file has changed since it was reviewed"] = len(outdated)
    for reviews in by_image.values():
        labels = {one.label for one in reviews}
        named = labels - {None}
        if len(named) > 1:
            left_out["readers name different classes"] += 1
        elif None in labels:  # who is unsure, or says what it is not, does not agree with who names a class
            left_out["a reader named no class, or is unsure"] += 1
        else:
            agreed.append((str(named.pop()), reviews))
    refuse_url(output)
    if output.suffix.lower() == ".csv":
        _write_csv(ensure_output_file(output), agreed)
        missing = changed = 0
    else:
        missing, changed = _write_folder(session, run, output.expanduser().absolute(), agreed, copy=copy)
    for name, count in sorted(Counter(label for label, _ in agreed).items()):
        yield f"{name}: {count}"
    for why, count in sorted(left_out.items()):
        yield f"left out: {count} ({why})"
    if missing:
        yield f"left out: {missing} (the file cannot be read below the folder of the run)"
    if changed:
        yield f"left out: {changed} (the file has changed since it was explained)"
    yield f"written: {output}"


def _write_csv(file: Path, agreed: list[tuple[str, list[Review]]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for label, reviews in agreed:
            readers = _no_formula(";".join(one.reader for one in reviews))
            notes = _no_formula(" | ".join(one.note for one in reviews if one.note))
            when = max(one.updated_at for one in reviews).isoformat(timespec="seconds")
            writer.writerow([reviews[0].path, label, readers, reviews[0].predicted, notes, when])


def _no_formula(text: str) -> str:
    """`text` as a spreadsheet shows it: what readers wrote is not to be calculated by who opens the table."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _write_folder(
    session: Session, run: Run, folder: Path, agreed: list[tuple[str, list[Review]]], *, copy: bool
) -> tuple[int, int]:
    """Link or copy each image below its class; how many could not be found, and how many have changed.

    A member of an archive is written out, below a folder of the archive's name: nothing can link to it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise XraycamError(f"{folder} exists and is not empty; name a new folder")
    for label in {label for label, _ in agreed}:
        if "/" in label or label in (".", "..") or label.startswith("."):
            raise XraycamError(f"a class called {label!r} cannot be a folder; write a CSV file")
    pictures = RunPictures(run, limits_of(session.settings))
    if isinstance(pictures.root, RemoteFolder) and not copy:
        raise XraycamError(
            f"run {run.id} is of {printable(run.root)}, to which nothing can link; add --copy, or name a "
            ".csv file"
        )
    missing = changed = 0
    for label, reviews in agreed:
        path = reviews[0].path
        try:
            content = pictures.member(path)
            source = pictures.source(path)
            if isinstance(pictures.root, RemoteFolder) or isinstance(source, RemotePath):
                source = Path(path)
                relative = source
            else:
                relative = source.relative_to(pictures.root)
                if content is None and not source.is_file():
                    raise XraycamError(f"{printable(path)} is not a file")
        except (XraycamError, ValueError):
            missing += 1
            continue
        explained = reviews[0].sha256
        if explained is not None and explained != _sha256(source, content):
            changed += 1
            continue
        target = (
            folder / label / (relative if content is None else relative.as_posix().replace(SEPARATOR, "/"))
        )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                target.write_bytes(content)
            elif copy:
                shutil.copyfile(source, target)
            else:
                target.symlink_to(source)
        except OSError as error:
            raise XraycamError(f"{printable(target)} cannot be written: {error.strerror}") from error
    return missing, changed


def _sha256(source: Path, content: bytes | None) -> str:
    """Of a member's `content`, or of the file `source`."""
    if content is not None:
        return hashlib.sha256(content).hexdigest()
    with source.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
