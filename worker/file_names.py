"""File names: as text for people and for the ledger, and what their ending says."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

_ESCAPES = re.compile(rb"(?:\\x[89a-f][0-9a-f])+")


# Lists, notes and kept heatmaps lie beside images, and are not meant to be read as some.
_SIDECARS = frozenset(
    {
        ".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".rst", ".xlsx", ".xls", ".ods", ".docx", ".doc",
        ".pptx", ".pdf", ".html", ".htm", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".log", ".npz",
        ".npy", ".parquet", ".h5", ".hdf5", ".mat", ".py", ".ipynb", ".sh", ".bat", ".md5", ".sha256", ".db",
        ".sqlite",
    }
)  # fmt: skip

IMAGE_EXTENSIONS = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".jp2",
        ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jls", ".jxl", ".btf", ".apng", ".pgm", ".ppm", ".pnm",
        ".pfm", ".dcm", ".dicom",
    }
)  # fmt: skip


def is_sidecar(file: Path | str) -> bool:
    """Whether a file among images is, by its ending, something that accompanies them."""
    return os.path.splitext(file)[1].lower() in _SIDECARS  # noqa: PTH122 - a million are asked for


def has_image_extension(file: Path | str) -> bool:
    """Whether a file is, by its ending, an image of a kind that is read."""
    return os.path.splitext(file)[1].lower() in IMAGE_EXTENSIONS  # noqa: PTH122 - a million are asked for


# Of Linux's and macOS's file systems, in bytes.
NAME_MAX = 255


def fitting_path(path: str, suffix: str = "") -> str:
    """`path` with `suffix`, no name in it longer than a file system takes.

    A name that is too long, of which two may begin alike, keeps its beginning and gets 16 hexadecimal digits
    of its SHA-256.
    """
    *folders, name = path.split("/")
    return "/".join([*(_fitting(folder, "") for folder in folders), _fitting(name, suffix)])


def _fitting(name: str, suffix: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) + len(suffix) <= NAME_MAX:
        return name + suffix
    ending = f"~{hashlib.sha256(encoded).hexdigest()[:16]}{suffix}"
    kept = encoded[: NAME_MAX - len(ending)]
    return kept.decode("utf-8", "ignore") + ending


def printable(file: object) -> str:
    """The path as one line of valid Unicode, whatever bytes its name holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(file))


def escape_path(path: str) -> str:
    r"""The path as valid Unicode: bytes that are not UTF-8 become escapes, `\xff`.

    >>> as_text(os.fsdecode(b"caf\xe9.png"))
    'caf\\xe9.png'
    """
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")


def unescape_path(root: str, path: str) -> str:
    """The path below `root` that `escape_path` wrote as `path`; a file of just that name comes first."""
    if "\\x" not in path or os.path.lexists(os.path.join(root, path)):  # noqa: PTH118 - a million are asked for
        return path
    meant = _ESCAPES.sub(lambda found: bytes.fromhex(found[0].replace(rb"\x", b"").decode()), path.encode())
    decoded = os.fsdecode(meant)
    return decoded if os.path.lexists(os.path.join(root, decoded)) else path  # noqa: PTH118 - a million are asked for
