"""A `.keras` or `.h5` file, opened as data: its configuration as JSON, its weights as HDF5 datasets."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from worker.errors import ModelError
from worker.file_names import printable

LARGEST_FILE = 1_000_000_000
LARGEST_CONFIGURATION = 20_000_000
# A bomb of zeros; weights that were trained hardly compress.
_LARGEST_RATIO = 100
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class KerasFile:
    """`model`: the configuration, not yet checked. `weights`: the open HDF5 file. `legacy`: weights are by
    layer name, as `.h5` has them, not by place. `keras`: the version that wrote it, major number."""

    model: dict[str, Any]
    weights: h5py.File
    legacy: bool
    keras: int


@contextmanager
def open_keras_file(path: Path) -> Iterator[KerasFile]:
    """Open `path`. Raises ModelError, in one line, for what is no Keras model or is not safe to read."""
    shown = printable(path)
    try:
        if path.is_dir():
            raise ModelError(_of_folder(path))
        if path.stat().st_size > LARGEST_FILE:
            raise ModelError(f"{shown} has more than {LARGEST_FILE:,} bytes, the limit")
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise ModelError(f"{shown} cannot be read: {error.strerror}") from error
    if start == _HDF5:
        with _hdf5(path, shown) as weights:
            yield _legacy(weights, shown)
    elif start[:4] == b"PK\x03\x04":
        with tempfile.TemporaryDirectory(prefix="xraycam-import-") as folder:
            extracted = Path(folder) / "weights.h5"
            model, keras = _members(path, extracted, shown)
            with _hdf5(extracted, shown) as weights:
                yield KerasFile(model, weights, legacy=False, keras=keras)
    else:
        raise ModelError(
            f"{shown} is neither a .keras nor an .h5 file; write one by model.save('model.keras')"
        )


def half_precision_of(model: Any) -> str | None:
    """The half precision, such as `mixed_float16`, that layers of a configuration compute in, if any do."""
    waiting, found = [model], set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            dtype = part.get("dtype")
            settings = dtype.get("config") if isinstance(dtype, dict) else None
            name = settings.get("name") if isinstance(settings, dict) else dtype
            if name in ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16"):
                found.add(str(name))
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return max(found, default=None)  # a policy, `mixed_...`, rather than the dtype of a tensor


def _of_folder(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return (
            f"{printable(path)} is a SavedModel, which holds code; load it in Keras and export it by "
            "model.save('model.keras')"
        )
    return f"{printable(path)} is a folder, not a .keras or .h5 file"


@contextmanager
def _hdf5(path: Path, shown: str) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except Exception as error:
        raise ModelError(f"{shown} is damaged: its weights are no HDF5 file") from error
    with file:
        yield file


def _legacy(file: h5py.File, shown: str) -> KerasFile:
    text = _attribute(file, "model_config", shown)
    if text is None:
        raise ModelError(
            f"{shown} holds weights but no architecture; give the file that model.save('model.keras') writes"
        )
    return KerasFile(_json(text, shown), _child(file, "model_weights", shown), True, _major(file, shown))


def _child(file: h5py.File, name: str, shown: str) -> Any:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Group):
        raise ModelError(f"{shown} is damaged: it has no group {name}")
    return file[name]


def _major(file: h5py.File, shown: str) -> int:
    text = _attribute(file, "keras_version", shown)
    return _number(None if text is None else text.decode("ascii", "replace"))


def _number(version: Any) -> int:
    start = str(version).split(".")[0]
    return int(start) if start in ("1", "2", "3", "4") else 2


def _attribute(file: h5py.File, name: str, shown: str) -> bytes | None:
    try:
        if name not in file.attrs:
            return None
        found = file.attrs.get_id(name)
        if found.shape not in ((), (1,)) or found.get_storage_size() > LARGEST_CONFIGURATION:
            raise ModelError(f"{shown} is damaged: {name} is no text")
        value = file.attrs[name]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{shown} is damaged: {name} cannot be read") from error
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    raise ModelError(f"{shown} is damaged: {name} is no text")


def _members(path: Path, extracted: Path, shown: str) -> tuple[dict[str, Any], int]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, shown)
            names = {member.filename: member for member in members}
            if "config.json" not in names or "model.weights.h5" not in names:
                raise ModelError(
                    f"{shown} is no .keras file: it needs config.json and model.weights.h5; write it by "
                    "model.save('model.keras')"
                )
            model = _json(archive.read(names["config.json"]), shown)
            about = _json(archive.read(names["metadata.json"]), shown) if "metadata.json" in names else {}
            with archive.open(names["model.weights.h5"]) as source, extracted.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise ModelError(f"{shown} is damaged: {printable(str(error))[:200]}") from error
    except Exception as error:  # zlib, lzma and bz2 have errors of their own
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{shown} is damaged: {printable(str(error))[:200]}") from error
    return model, _number(about.get("keras_version"))


def _check_members(members: list[zipfile.ZipInfo], shown: str) -> None:
    if len(members) > 1000:
        raise ModelError(f"{shown} holds {len(members):,} files; a .keras file has three")
    seen = set()
    for member in members:
        name = printable(member.filename[:200])
        parts = member.filename.replace("\\", "/").split("/")
        if member.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise ModelError(f"{shown} holds a path that leaves its folder: {name}")
        if member.filename in seen:
            raise ModelError(f"{shown} holds {name} twice")
        seen.add(member.filename)
        if member.flag_bits & 0x1:
            raise ModelError(f"{shown} is encrypted; give it without a password")
        limit = LARGEST_FILE if member.filename == "model.weights.h5" else LARGEST_CONFIGURATION
        bomb = member.file_size > 10_000_000 and member.file_size > _LARGEST_RATIO * member.compress_size
        if bomb or (
            member.filename in ("config.json", "metadata.json", "model.weights.h5")
            and member.file_size > limit
        ):
            raise ModelError(f"{shown}: {name} would be {member.file_size:,} bytes when unpacked; refused")


def read_json(content: bytes, shown: str) -> dict[str, Any]:
    """An object of plain JSON. Raises ModelError for anything else, and for NaN and Infinity."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    try:
        value = json.loads(content.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else printable(str(error))[:100]
        raise ModelError(f"{shown} is damaged: its configuration is no JSON: {what}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{shown} is damaged: its configuration is no object")
    return value


def _json(content: bytes, shown: str) -> dict[str, Any]:
    if len(content) > LARGEST_CONFIGURATION:
        raise ModelError(f"{shown}: its configuration has more than {LARGEST_CONFIGURATION:,} bytes")
    return read_json(content, shown)
