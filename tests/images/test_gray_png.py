"""Gray PNG files give the same pixels whichever decoder reads them, and the same reason when damaged."""

from __future__ import annotations

import io
from collections.abc import Iterator

import imagecodecs
import numpy as np
import pytest
from PIL import Image

import worker.images.raster as raster_module
from worker.errors import ImageError
from worker.images.headers import png_header
from worker.images.limits import Limits
from worker.images.raster import _plain_gray, decode_raster


def shades(bits: int) -> np.ndarray:
    values = np.random.default_rng(bits).integers(0, 2**bits, (61, 83))
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def written(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", **options)
    return buffer.getvalue()


def files() -> Iterator[tuple[str, bytes]]:
    for bits in (8, 12, 16):
        yield f"{bits} bits", written(shades(bits))
    for level in range(4):
        yield f"compression {level}", written(np.sort(shades(8), axis=1), compress_level=3 * level)
    yield "transparency", written(shades(8), transparency=3)
    yield "by another program", imagecodecs.png_encode(shades(16))
    yield "animated", written(shades(8), save_all=True, append_images=[Image.fromarray(shades(8)[::-1])])


@pytest.mark.parametrize(("name", "content"), list(files()))
def test_pixels_are_those_of_the_other_decoders(
    name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = png_header(content)
    assert _plain_gray(header, name, Limits()) is not None, "the fast decoder takes it"
    accept = frozenset({"multi-frame"})
    fast = decode_raster(content, name, Limits(), accept)
    monkeypatch.setattr(raster_module, "_plain_gray", lambda *_: None)
    usual = decode_raster(content, name, Limits(), accept)
    assert fast.mode == usual.mode == "L"
    np.testing.assert_array_equal(np.asarray(fast), np.asarray(usual))


def test_colour_and_what_may_be_turned_are_left_to_the_other_decoders() -> None:
    colour = written(np.stack([shades(8)] * 3, axis=-1))
    exif = Image.Exif()
    exif[0x0112] = 6
    for content in (colour, written(shades(8), exif=exif)):
        assert _plain_gray(png_header(content), "x.png", Limits()) is None
    assert decode_raster(written(shades(8), exif=exif), "x.png", Limits()).size == (61, 83)


@pytest.mark.parametrize("place", range(40, 5000, 450))
def test_a_damaged_file_gives_the_reason_that_the_other_decoders_give(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(written(shades(8)))
    content[place] ^= 0x55
    for damaged in (bytes(content), bytes(content[:place])):
        found = []
        for replaced in (False, True):
            with monkeypatch.context() as context:
                if replaced:
                    context.setattr(raster_module, "_plain_gray", lambda *_: None)
                try:
                    found.append(np.asarray(decode_raster(damaged, "x.png", Limits())).tolist())
                except ImageError as error:
                    found.append([error.reason, str(error)])
        assert found[0] == found[1]


def test_a_header_that_promises_too_much_is_refused_before_anything_is_decoded() -> None:
    content = written(shades(8))
    with pytest.raises(ImageError) as caught:
        decode_raster(content, "x.png", Limits(max_pixels=100))
    assert caught.value.reason == "too-large"
