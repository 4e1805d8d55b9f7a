"""Every file of the sample set of DICOM files is explained or refused as it must be, to the gray level."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from producer.scan import Folder, ScanCounts, scan
from worker.errors import ImageError
from worker.images.dicom import is_dicom
from worker.images.dicom_frames import Frame, PixelFormat, first_frame, read_format
from worker.images.dicom_header import read_header
from worker.images.dicom_rendering import look_up, render, stored_values
from worker.images.limits import Limits
from worker.images.reader import read_radiograph

SAMPLES = Path(__file__).resolve().parents[3] / "shared/data/dicom"
REFUSED = {
    "hip_jpeg12_lossy.dcm": "not-chest",
    "tibia_j2k_lossless.dcm": "not-chest",
    "report_sr.dcm": "not-radiograph",
    "presentation_state.dcm": "not-radiograph",
    "ct_slice_jpegls.dcm": "not-radiograph",
    "cr_no_pixels.dcm": "no-pixels",
    "dx_for_processing.dcm": "for-processing",
    "dx_lateral_label.dcm": "not-frontal",
    "two_frames.dcm": "multi-frame",
    "truncated_jpeg.dcm": "truncated",
    "encapsulated_pdf.dcm": "not-radiograph",
    "media/DICOM/IM000003": "not-radiograph",
    "media/DICOMDIR": "not-radiograph",
}


@cache
def expected() -> dict[str, dict[str, Any]]:
    file = SAMPLES / "expected.json"
    if not file.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(file.read_text())
    return found


pytestmark = pytest.mark.skipif(
    not expected(),
    reason="the sample DICOM files are not beside the project",
)


def test_sample_set_is_whole() -> None:
    assert len(expected()) == 32
    assert {name for name, entry in expected().items() if entry["must"] == "refuse"} == set(REFUSED)


@pytest.mark.parametrize("name", expected())
def test_sample_is_explained_or_refused_as_it_must_be(name: str) -> None:
    entry = expected()[name]
    file = SAMPLES / name
    assert is_dicom(file.read_bytes())
    if entry["must"] == "refuse":
        with pytest.raises(ImageError) as caught:
            read_radiograph(file, Limits())
        assert caught.value.reason == REFUSED[name]
        return
    radiograph = read_radiograph(file, Limits())
    assert radiograph.pixels.mode == "L"
    assert radiograph.dicom is not None
    assert (radiograph.width, radiograph.height) == (
        entry["width"],
        entry.get("display_height", entry["height"]),
    )


@pytest.mark.parametrize("name", [name for name, entry in expected().items() if entry["mean"] is not None])
def test_gray_is_that_of_the_reference(name: str) -> None:
    entry = expected()[name]
    content = (SAMPLES / name).read_bytes()
    header = read_header(content, name, Limits())
    form = read_format(header, name, Limits())
    frame = first_frame(header, form, name, frozenset({"multi-frame"}))
    if entry["stored_sha256"] is not None:
        stored = look_up(stored_values(form, frame), frame.values)
        kind = "u1" if form.allocated == 8 else ("<i2" if form.is_signed else "<u2")
        assert hashlib.sha256(stored.astype(kind).tobytes()).hexdigest() == entry["stored_sha256"]
    gray, _, _ = render(header, form, frame, name)
    assert gray.size == (entry["width"], entry["height"])
    values = np.asarray(gray)
    tolerance = 2 if frame.is_lossy else 1
    assert abs(float(values.mean()) - entry["mean"]) < 0.3
    exact = reference(entry["rendering"], content, form, frame)
    if exact is None:
        return
    # Cut off; a float may lie a hair below or above the whole number that it stands for.
    cut = [np.floor(exact + hair) for hair in (-1e-9, 0, 1e-9)]
    assert min(abs(float(gray.mean()) - entry["mean"]) for gray in cut) < 0.005  # this is the reference
    assert np.abs(values - cut[1]).max() <= tolerance
    if name.endswith("sc_rgb_film.dcm") or "550/1024" in entry["rendering"]:
        return  # where gray is on whole numbers, and cut to either side
    assert hashlib.sha256(values.tobytes()).hexdigest() == entry["sha256"] or entry["sha256"] is None


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_samples_in_an_archive_are_found_and_read_as_in_the_folder(tmp_path: Path, kind: str) -> None:
    where = tmp_path / f"samples.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(where, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for name in expected():
                packed.write(SAMPLES / name, name)
    else:
        with tarfile.open(where, f"w:{kind.partition('.')[2]}") as tape:
            for name in expected():
                tape.add(SAMPLES / name, name)
    in_folder = {file.path for file in scan(Folder(SAMPLES), ScanCounts())}
    for folder in (Folder(tmp_path), Folder(tmp_path, where.name)):
        found = [file.path for file in scan(folder, ScanCounts())]
        assert {path.removeprefix(f"{where.name}!/") for path in found} == in_folder
        assert len(found) == len(in_folder)
    for name in in_folder:
        assert outcome(tmp_path / f"{where.name}!/{name}", tmp_path) == outcome(SAMPLES / name)


def outcome(file: Path, root: Path | None = None) -> str:
    try:
        return read_radiograph(file, Limits(), root).sha256
    except ImageError as error:
        return error.reason


def reference(rendering: str, content: bytes, form: PixelFormat, frame: Frame) -> Any:
    """The gray that `rendering` of expected.json names, by the formulas of the README beside it, not yet cut
    to whole numbers; None for a VOI LUT."""
    if rendering == "gray of RGB":
        red, green, blue = frame.values.astype(np.float64).transpose(2, 0, 1)
        return 0.299 * red + 0.587 * green + 0.114 * blue
    stored = look_up(stored_values(form, frame), frame.values).astype(np.float64)
    dataset = pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=True)
    values = stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", rendering)]
    if rendering.startswith("window"):
        center, width = numbers
        gray = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    elif rendering.startswith("sigmoid"):
        center, width = numbers
        gray = 255 / (1 + np.exp(-4 * (values - center) / width))
    elif rendering.startswith("no usable window"):
        low, high = (float(number) for number in rendering.split()[4].strip(";").split(".."))
        gray = (values - low) / (high - low) * 255
    elif rendering.startswith("no window"):
        gray = values
    else:
        return None
    gray = gray.clip(0, 255)
    if form.photometric == "MONOCHROME1":
        gray = 255 - gray
    if "padding" in rendering:
        gray[stored == dataset.PixelPaddingValue] = 0
    return gray
