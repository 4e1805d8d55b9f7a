"""The argument DATASET: a labelled folder, or a CSV file of labels."""

from __future__ import annotations

from pathlib import Path

from worker.errors import XraycamError


def labels_at(dataset: Path, images: Path | None) -> tuple[Path, Path | None]:
    """Both as absolute paths. Raises XraycamError for what is neither folder nor CSV file."""
    source = dataset.expanduser().absolute()
    root = None if images is None else images.expanduser().absolute()
    if source.is_dir():
        if root is not None:
            raise XraycamError("--images is for a CSV file of labels; a folder holds its images")
    elif not source.exists():
        raise XraycamError(
            f"there is no folder {dataset}; name one that has a sub-folder for each class, or a CSV file of "
            "labels"
        )
    elif not source.is_file() or source.suffix.lower() != ".csv":
        raise XraycamError(f"{dataset} is no folder, and no table of labels whose name ends in .csv")
    elif root is not None and not root.is_dir():
        raise XraycamError(f"--images {images}: there is no such folder")
    return source, root
