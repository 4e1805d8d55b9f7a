"""One phantom in encodings of many depths and formats, each of which must be read as the phantom."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from producer.phantoms.folder import draw_phantom

Values = np.ndarray[Any, np.dtype[Any]]
WIDTH, HEIGHT = 128, 112


@cache
def phantom(number: int = 1, width: int = WIDTH, height: int = HEIGHT) -> Values:
    """uint8 (height, width), black to white."""
    image, _ = draw_phantom(3, number, 256, ill=number % 2 == 0, marked=False)
    pixels = np.asarray(image.resize((width, height))).astype(np.float64)
    pixels = (pixels - pixels.min()) * 255 / np.ptp(pixels)
    return (pixels + 0.5).astype(np.uint8)


def deep(bits: int, number: int = 1, white: int | None = None) -> Values:
    """The phantom with white at 2^bits - 1, or at `white`."""
    full = 2**bits - 1 if white is None else white
    return np.round(phantom(number) / 255 * full).astype(np.uint8 if bits <= 8 else np.uint16)


def tiff(values: Values, **options: Any) -> bytes:
    buffer = io.BytesIO()
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    tifffile.imwrite(buffer, values, **{"photometric": photometric, **options})
    return buffer.getvalue()


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rgb(values: Values) -> Values:
    return np.dstack([values] * 3)


def opaque(values: Values) -> Values:
    """With a channel of transparency behind."""
    return np.dstack([values, np.full(values.shape[:2], np.iinfo(values.dtype).max, values.dtype)])


def pages(*of: tuple[Values, dict[str, Any]]) -> bytes:
    """A TIFF of several pages, each with what its tags say."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for values, said in of:
            writer.write(values, metadata=None, **{"photometric": "minisblack", **said})
    return stream.getvalue()


def netpbm(kind: str, values: Values, white: int) -> bytes:
    height, width = values.shape[:2]
    return f"{kind}\n# drawn\n{width} {height}\n{white}\n".encode() + values.astype(">u2").tobytes()


def encodings() -> dict[str, bytes]:
    """By name; most are of 12 bits."""
    g8, g12, g16 = deep(8), deep(12), deep(16)
    found = {
        "PNG 16": imagecodecs.png_encode(g16),
        "PNG 16 RGB": imagecodecs.png_encode(rgb(g12)),
        "PNG 16 RGBA": imagecodecs.png_encode(opaque(rgb(g12))),
        "PNG 16 LA": imagecodecs.png_encode(opaque(g12)),
        "JPEG 12": imagecodecs.jpeg8_encode(g12, level=98, bitspersample=12),
        "JPEG 12 RGB": imagecodecs.jpeg8_encode(rgb(g12), level=98, bitspersample=12),
        "JPEG-LS 12": imagecodecs.jpegls_encode(g12),
        "JPEG-LS RGB": imagecodecs.jpegls_encode(rgb(g12)),
        "JPEG 2000 RGB": imagecodecs.jpeg2k_encode(rgb(g12), level=0, bitspersample=12),
        "JPEG 2000 signed": imagecodecs.jpeg2k_encode(
            (g12.astype(np.int32) - 2048).astype(np.int16), level=0
        ),
        "JPEG XL 16": imagecodecs.jpegxl_encode(g16, lossless=True),
        "JPEG XL 8": imagecodecs.jpegxl_encode(g8, lossless=True),
        "JPEG XL float": imagecodecs.jpegxl_encode((g8 / 255).astype(np.float32), lossless=True),
        "PGM 12": netpbm("P5", g12, 4095),
        "PGM 12 of 16": netpbm("P5", g12, 65535),
        "PPM 12 of 16": netpbm("P6", rgb(g12), 65535),
        "PGM text": b"P2 128 112 4095\n" + b" ".join(b"%d" % value for value in g12.ravel()),
        "PFM": b"Pf\n128 112\n-1.0\n" + (g8 / 255).astype("<f4")[::-1].tobytes(),
        "TIFF JPEG 12": tiff(g12, compression="jpeg", compressionargs={"level": 98, "bitspersample": 12}),
        "TIFF JPEG lossless": tiff(
            g16, compression="jpeg", compressionargs={"lossless": True, "bitspersample": 16}
        ),
        "TIFF JPEG 2000": tiff(g12, compression="jpeg2000"),
        "TIFF JPEG 2000 8": tiff(g8, compression="jpeg2000"),
        "TIFF JPEG XL": tiff(g16, compression="jpegxl"),
        "TIFF ZSTD": tiff(g12, compression="zstd", predictor=True),
        "TIFF ZSTD 8": tiff(g8, compression="zstd"),
        "TIFF LZMA": tiff(g12, compression="lzma"),
        "TIFF LZW": tiff(g12, compression="lzw", predictor=True),
        "TIFF deflate": tiff(g12, compression="deflate", rowsperstrip=17),
        "TIFF PackBits": tiff(g12, compression="packbits"),
        "TIFF tiled": tiff(g12, tile=(48, 64), compression="deflate"),
        "TIFF big-endian": tiff(g12, byteorder=">"),
        "BigTIFF": tiff(g12, bigtiff=True),
        "BigTIFF 8": tiff(g8, bigtiff=True),
        "TIFF planar": tiff(np.stack([g12] * 3), photometric="rgb", planarconfig="separate"),
        "TIFF RGB 12": tiff(rgb(g12)),
        "TIFF RGBA 12": tiff(opaque(rgb(g12)), extrasamples=["unassalpha"]),
        "TIFF LA 12": tiff(
            opaque(g12), photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig"
        ),
        "TIFF CMYK 16": tiff(np.dstack([65535 - g16] * 3 + [g16 * 0]), photometric="separated"),
        "TIFF float16": tiff((g8 / 255).astype(np.float16)),
        "TIFF float32 predicted": tiff((g8 / 255).astype(np.float32), compression="deflate", predictor=3),
        "TIFF float64": tiff(g8 / 255.0),
        "TIFF float of 12 bits": tiff(g12.astype(np.float32)),
        "TIFF float of -1 to 1": tiff((g8 / 127.5 - 1).astype(np.float32)),
        "TIFF int8": tiff((g8.astype(np.int16) - 128).astype(np.int8)),
        "TIFF int16": tiff((g12.astype(np.int32) - 1024).astype(np.int16)),
        "TIFF uint32": tiff(g12.astype(np.uint32)),
        "TIFF with a thumbnail": pages((g12, {}), (g12[::4, ::4], {"subfiletype": 1})),
        "TIFF with a thumbnail first": pages((g12[::4, ::4], {"subfiletype": 1}), (g12, {})),
        "TIFF 8 with a thumbnail first": pages((g8[::4, ::4], {"subfiletype": 1}), (g8, {})),
        "TIFF 8 with an old thumbnail": pages(
            (g8[::4, ::4], {"extratags": [(255, 3, 1, 2, True)]}), (g8, {})
        ),
        "TIFF with a mask": pages((g12, {}), (g12 > 9, {"photometric": "mask", "subfiletype": 4})),
    }
    for bits in (8, 9, 10, 12, 14, 16):
        values = deep(bits)
        found[f"JPEG lossless {bits}"] = imagecodecs.ljpeg_encode(values, bitspersample=bits)
        for kind in ("jp2", "j2k"):
            found[f"{kind} {bits}"] = imagecodecs.jpeg2k_encode(
                values, level=0, bitspersample=bits, codecformat=kind
            )
    for bits in (10, 12, 14):
        found[f"TIFF {bits} packed"] = tiff(deep(bits), bitspersample=bits)
    return found
