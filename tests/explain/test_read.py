"""Every file gives its pixels or one reason, named with the file."""

from __future__ import annotations

import hashlib
import io
import os
import pwd
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.errors import ImageError
from worker.images.limits import Limits
from worker.images.reader import read_radiograph

AWKWARD = Path(__file__).resolve().parents[3] / "shared/data/awkward"
LIMITS = Limits()


def refused(file: Path, limits: Limits = LIMITS) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_radiograph(file, limits)
    error = caught.value
    assert str(error).startswith(str(file.parent))
    assert "\n" not in str(error)
    return error


def reason_of(file: Path) -> str | None:
    try:
        read_radiograph(file, LIMITS)
    except ImageError as error:
        return error.reason
    return None


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def noise(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8))


def test_gray_png_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(noise()))
    radiograph = read_radiograph(file, LIMITS)
    assert (radiograph.width, radiograph.height) == (64, 48)
    assert radiograph.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    np.testing.assert_array_equal(np.asarray(radiograph.pixels), np.asarray(noise()))


BARE_DICOM = struct.pack("<HHII", 8, 0, 4, 286) + struct.pack("<HHI", 8, 8, 22) + bytes(22)
BARE_DICOM_EXPLICIT = (
    struct.pack("<HH2sH", 2, 16, b"UI", 4) + b"1.2\0" + struct.pack("<HH2sH", 8, 5, b"CS", 0) + bytes(9)
)


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (b"", "empty", "is empty (0 bytes)"),
        (b"this is not an image", "not-an-image", "is not an image of a known format (PNG"),
        (png(noise())[:1500], "truncated", "is cut short"),
        (png(noise())[:20], "truncated", "is cut short"),
        (b"\xff\xd8\xff\xe0", "truncated", "is cut short"),
        (png(noise(1, 200)), "too-small", "is 1 x 200 pixels; at least 16 on each side"),
        (png(noise(200, 15)), "too-small", "is 200 x 15 pixels"),
        (bytes(128) + b"DICM", "truncated", "is DICOM cut short in its header"),
        (BARE_DICOM, "not-an-image", "begins like DICOM but holds no image"),
        (BARE_DICOM_EXPLICIT, "truncated", "is DICOM cut short in its header"),
    ],
)
def test_bad_content_is_refused_with_its_reason(
    tmp_path: Path, content: bytes, reason: str, words: str
) -> None:
    file = tmp_path / "bad.png"
    file.write_bytes(content)
    error = refused(file)
    assert error.reason == reason
    assert words in str(error)


def test_damaged_content_is_refused(tmp_path: Path) -> None:
    content = bytearray(png(noise()))
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    file = tmp_path / "damaged.png"
    file.write_bytes(content)
    error = refused(file)
    assert error.reason == "not-an-image"
    assert "is damaged" in str(error)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_any_flipped_byte_gives_pixels_or_a_reason(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    file = tmp_path / "flipped"
    reasons = set()
    for image_format in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"):
        buffer = io.BytesIO()
        noise(32, 32).save(buffer, image_format)
        for _ in range(40):
            content = bytearray(buffer.getvalue())
            content[random.integers(min(len(content), 200))] ^= 1 << random.integers(8)
            file.write_bytes(content)
            reasons.add(reason_of(file))
    assert {None, "truncated", "not-an-image"} <= reasons
    assert reasons <= {None, "truncated", "not-an-image", "too-small", "too-large", "no-contrast"}


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    # A header that promises 60,000 x 60,000 pixels, and nothing behind it.
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    whole = png(noise())
    file = tmp_path / "bomb.png"
    content = bytearray(whole)
    content[16:29] = header
    content[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    file.write_bytes(content)
    error = refused(file)
    assert error.reason == "too-large"
    assert "is 60000 x 60000 pixels; the limit is 100,000,000 pixels in all" in str(error)


def test_limits_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(noise()))
    assert refused(file, Limits(max_bytes=100)).reason == "too-large"
    assert refused(file, Limits(max_pixels=64 * 48 - 1)).reason == "too-large"
    assert refused(file, Limits(min_side=49)).reason == "too-small"
    assert read_radiograph(file, Limits(max_pixels=64 * 48, min_side=48)).width == 64


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone.png").reason == "missing"
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert refused(folder).reason == "unreadable"


def test_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert refused(pipe).reason == "unreadable"


@pytest.fixture
def not_root() -> Iterator[None]:
    """Root may read everything; somebody else may not."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield
    os.seteuid(before)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_file_without_permission_is_refused(open_folder: Path, request: pytest.FixtureRequest) -> None:
    file = open_folder / "private.png"
    file.write_bytes(png(noise()))
    file.chmod(0)
    request.getfixturevalue("not_root")
    error = refused(file)
    assert error.reason == "unreadable"
    assert "check its permissions" in str(error)


def test_strange_names_stay_on_one_line(tmp_path: Path) -> None:
    file = tmp_path / "two\nlines \udcff.png"
    file.write_bytes(b"text")
    with pytest.raises(ImageError) as caught:
        read_radiograph(file, LIMITS)
    assert "two\\nlines \\udcff.png is not an image" in str(caught.value)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "1"])
def test_every_mode_becomes_the_same_gray(tmp_path: Path, mode: str) -> None:
    gray = Image.fromarray(np.repeat(np.array([[0, 255], [255, 0]], np.uint8), 16, axis=0).repeat(16, axis=1))
    file = tmp_path / "image.tif"
    gray.convert("RGB").convert(mode).save(file)
    np.testing.assert_array_equal(np.asarray(read_radiograph(file, LIMITS).pixels), np.asarray(gray))


@pytest.mark.parametrize(
    ("brightest", "full"), [(65535, 65535), (25709, 32767), (4095, 4095), (1000, 1023), (200, 255)]
)
def test_sixteen_bits_are_scaled_by_the_bits_in_use(tmp_path: Path, brightest: int, full: int) -> None:
    values = np.linspace(0, brightest, 32 * 32).astype(np.uint16).reshape(32, 32)
    for name in ("deep.png", "deep.tif"):
        file = tmp_path / name
        Image.fromarray(values).save(file)
        pixels = np.asarray(read_radiograph(file, LIMITS).pixels)
        np.testing.assert_array_equal(pixels, np.floor(values * (255 / full) + 0.5))
    assert pixels[0, 0] == 0
    assert pixels.max() == round(brightest * 255 / full)


def test_black_sixteen_bit_image_has_no_contrast(tmp_path: Path) -> None:
    file = tmp_path / "black.png"
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(file)
    assert reason_of(file) == "no-contrast"


def test_floats_run_from_minimum_to_maximum(tmp_path: Path) -> None:
    file = tmp_path / "float.tif"
    Image.fromarray(np.linspace(-2, 3, 32 * 32, dtype=np.float32).reshape(32, 32)).save(file)
    pixels = np.asarray(read_radiograph(file, LIMITS).pixels)
    assert (pixels.min(), pixels.max()) == (0, 255)
    Image.fromarray(np.full((32, 32), np.nan, np.float32)).save(file)
    assert refused(file).reason == "not-an-image"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_camera_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((32, 48), np.uint8)
    upright[:8, :8] = 255
    stored = np.rot90(upright, {1: 0, 3: 2, 6: 1, 8: 3}[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif)
    radiograph = read_radiograph(file, LIMITS)
    assert (radiograph.width, radiograph.height) == (48, 32)
    np.testing.assert_array_equal(np.asarray(radiograph.pixels), upright)


def test_the_name_does_not_decide_the_format(tmp_path: Path) -> None:
    file = tmp_path / "actually_png.jpg"
    file.write_bytes(png(noise()))
    assert read_radiograph(file, LIMITS).width == 64


def test_32_bit_integers_are_scaled_alike(tmp_path: Path) -> None:
    values = np.linspace(0, 4000, 32 * 32).astype(np.int32).reshape(32, 32)
    file = tmp_path / "deep.tif"
    Image.fromarray(values).save(file)
    pixels = np.asarray(read_radiograph(file, LIMITS).pixels)
    np.testing.assert_array_equal(pixels, np.floor(values * (255 / 4095) + 0.5))


def test_reading_and_drawing_do_not_need_tensorflow() -> None:
    program = (
        "import sys, worker.images.preprocess, worker.explain.overlay; "
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.skipif(not AWKWARD.is_dir(), reason="the collection of awkward files is not here")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("CR-MONO1-10-chest", None),
        ("RG1_JLSN.dcm", None),
        ("one_pixel_wide.png", "too-small"),
        ("text_renamed.png", "not-an-image"),
        ("truncated_half.png", "truncated"),
        ("zero_bytes.png", "empty"),
        ("COVID19_115.jpg", None),
        ("RG1_16bit_gray.png", None),
    ],
)
def test_awkward_files_found_in_the_wild(name: str, reason: str | None) -> None:
    if reason is not None:
        assert refused(AWKWARD / name).reason == reason
    else:
        pixels = np.asarray(read_radiograph(AWKWARD / name, LIMITS).pixels)
        assert pixels.max() > 180
        assert 20 < pixels.mean() < 200
