"""From the content of a raster file (PNG, JPEG, TIFF and so on) to 8-bit gray pixels, or to the reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import imagecodecs
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from worker.errors import ImageError
from worker.images import headers
from worker.images.depth import Values, gray_image, luma, require_contrast, seen
from worker.images.headers import PngHeader, StreamHeader
from worker.images.limits import Limits, pixel_budget
from worker.images.pnm import decode_pnm, deep_pnm, pnm_has_others
from worker.images.tiff import MAX_BYTES_PER_PIXEL, CutShort, open_tiff, plain, turned

# Pillow's own limit is one number for the whole process and only warns at first; `Limits` is checked
# below for every file, after the header and before a single pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("PNG", "JPEG", "JPEG-LS", "JPEG 2000", "JPEG XL", "TIFF", "BMP", "GIF", "WEBP", "PGM", "PFM")
# No format that runs a program (EPS), reads other files, or holds icons.
_PILLOW = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
_BEGINNINGS = (b"\x89PNG", headers.JPEG, *headers.TIFF, b"GIF8", headers.JPEG2000_BOX[:7])
_NOT_READ = (
    (b"II\xbc", "JPEG XR"), (b"%PDF", "PDF"), (b"%!PS", "PostScript"), (b"8BPS", "Photoshop"),
    (b"v/1\x01", "OpenEXR"), (b"#?RADIANCE", "Radiance HDR"), (b"PF\n", "colour PFM"), (b"P7\n", "PAM"),
    (b"NRRD", "NRRD"), (b"SIMPLE  =", "FITS"), (b"\x89HDF", "HDF5"),
    (b"\x93NUMPY", "NumPy"), (b"qoif", "QOI"), (b"DDS ", "DDS"), (b"ObjectType", "MetaImage"),
    (b"\x5c\x01\0\0", "NIfTI"), (b"\0\0\1\0", "ICO"), (b"<svg", "SVG"), (b"\xd7\xcd\xc6\x9a", "WMF"),
)  # fmt: skip
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}
_MAX_SCANS = 100  # of a progressive JPEG: each costs a pass over all pixels
_MAX_TILES = 10_000
_TRUECOLOUR, _ALPHA = 2, 4
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def decode_raster(
    content: bytes, shown: str, limits: Limits, accept: frozenset[str] = frozenset()
) -> Image.Image:
    """`content` as a loaded Pillow image of mode L, upright.

    Colour becomes luma (ITU-R 601), what an alpha channel hides is black (see `depth.seen`), the orientation
    of EXIF or TIFF is applied.
    Several pages or frames are refused, or with `multi-frame` in `accept` the first is taken; thumbnails and
    masks of TIFF are no pages. 8 bits stay as they are; more are scaled, see `depth.black_and_white`.
    Sizes are checked in all headers before anything is decoded. `shown` names the file in messages.
    Raises ImageError: `truncated`, `not-an-image`, `unsupported`, `too-small`, `too-large`, `no-contrast`,
    `multi-frame`.
    """
    try:
        if "multi-frame" not in accept and _has_several(content, limits):
            raise ImageError(
                "multi-frame",
                f"{shown} holds several pages or frames; export the one to be explained, or accept "
                "multi-frame to read the first",
            )
        image = _decoder(content)(content, shown, limits)
    except ImageError:
        raise
    except Exception as error:
        raise _explained(error, content, shown) from error
    require_contrast(image, shown)
    return image


def _has_several(content: bytes, limits: Limits) -> bool:
    """Whether a file holds pictures of which only one would be explained. What is damaged is told later."""
    with suppress(Exception):  # of damage, many kinds
        if content.startswith(headers.PNG):
            return headers.png_frames(content) > 1
        if content.startswith(headers.TIFF):
            return open_tiff(content, "", limits).has_others
        if content.startswith((b"P5", b"P6")):
            return pnm_has_others(content)
        if content.startswith((b"GIF8", b"RIFF")):
            with Image.open(io.BytesIO(content), formats=("GIF", "WEBP")) as image:
                return bool(getattr(image, "is_animated", False))
    return False


def _decoder(content: bytes) -> Callable[[bytes, str, Limits], Image.Image]:
    if content.startswith(headers.PNG):
        return _png
    if content.startswith(headers.JPEG):
        return _jpeg
    if content.startswith(headers.TIFF):
        return _tiff
    if content.startswith((headers.JPEG2000_BOX, headers.JPEG2000_STREAM)):
        return _jpeg2000
    if content.startswith((headers.JPEGXL_BOX, headers.JPEGXL_STREAM)):
        return _jpegxl
    if deep_pnm(content) is not None:
        return _pnm
    return _by_pillow


def _png(content: bytes, shown: str, limits: Limits) -> Image.Image:
    header = headers.png_header(content)
    if header.bad_chunk is not None:
        raise ImageError(
            "not-an-image",
            f"{shown} is damaged: the checksum of its {header.bad_chunk} chunk is wrong; "
            "copy it again from its source",
        )
    if header.depth != 16:
        found = _plain_gray(header, shown, limits) if header.depth == 8 else None
        return _by_pillow(header.content, shown, limits) if found is None else Image.fromarray(found)
    if header.is_cut:
        header.core.append(_PNG_END)  # all pixels may be there still
    per_pixel = 2 * (3 if header.colour & _TRUECOLOUR else 1) + (2 if header.colour & _ALPHA else 0)
    with _slot(header.width, header.height, shown, limits, per_pixel):
        try:
            decoded = _plain_gray(header, shown, limits)
            if decoded is None:
                decoded = imagecodecs.png_decode(headers.PNG + b"".join(header.core))
        except Exception as error:
            if header.is_cut:
                raise CutShort("it ends early") from error
            raise
        values = _seen(decoded)
        bits = header.significant_bits
        image = gray_image(values, significant_bits=bits if bits and bits < 16 else None)
        orientation = 1
        if header.may_be_turned:  # Pillow decodes the pixels to find that out
            with suppress(Exception), Image.open(io.BytesIO(header.content), formats=["PNG"]) as opened:
                orientation = int(opened.getexif().get(0x0112, 1))
        return turned(image, orientation)


def _plain_gray(header: PngHeader, shown: str, limits: Limits) -> Values | None:
    """The values of a PNG that is gray, whole and upright, uint8 or uint16 (height, width); None for others.

    By the PNG decoder of the Rust library `image`, which takes about half the time of libpng and of Pillow.
    Whatever it refuses the others are asked about, which say what is wrong.
    """
    if header.colour or header.is_cut or header.may_be_turned:
        return None
    from kornia_rs import io as rust

    check_size(header.width, header.height, shown, limits)
    decode = rust.decode_image_png_u8 if header.depth == 8 else rust.decode_image_png_u16
    with _large(header.width, header.height):
        try:
            values = np.asarray(decode(header.content, (header.height, header.width), "mono"))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # what the library calls a panic is no Exception
            return None
    return values[:, :, 0]


def _jpeg(content: bytes, shown: str, limits: Limits) -> Image.Image:
    header = headers.jpeg_header(content)
    if header is None or (header.bits == 8 and header.frame in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)):
        if header is not None and header.components == 4 and not header.has_adobe:
            raise _unsupported(
                shown, "a CMYK JPEG that does not say whether 0 is ink or paper (no Adobe mark)"
            )
        return _by_pillow(content, shown, limits)
    is_ls, is_lossless = header.frame == 0xF7, header.frame == 0xC3
    if not (is_ls or is_lossless or (header.bits == 12 and header.frame in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA))):
        raise _unsupported(
            shown, f"a JPEG of a kind hardly used (frame FF{header.frame:02X}, {header.bits} bits)"
        )
    if header.components not in (1, 3):
        raise _unsupported(shown, f"a JPEG of {header.bits} bits and {header.components} colours")
    with _slot(header.width, header.height, shown, limits, 2 * header.components):
        if content.find(b"\xff\xd9", header.start) < 0:  # the decoders would make up what is missing
            raise CutShort("it has no end marker")
        if content.count(b"\xff\xda") > _MAX_SCANS:
            raise ValueError(f"it has more than {_MAX_SCANS} scans")
        decode = imagecodecs.jpegls_decode if is_ls else imagecodecs.jpeg8_decode
        image = _of_stream(decode(content), header)
        orientation = 1
        with suppress(Exception):
            exif = Image.Exif()
            exif.load(header.exif or b"")
            orientation = int(exif.get(0x0112, 1))
        return turned(image, orientation)


def _jpeg2000(content: bytes, shown: str, limits: Limits) -> Image.Image:
    header = headers.jpeg2000_header(content)
    if header is None:
        return _by_pillow(content, shown, limits)  # which says what is wrong
    check_size(header.width, header.height, shown, limits)
    if header.tiles > _MAX_TILES:
        raise ValueError(f"it has {header.tiles:,} tiles; at most {_MAX_TILES:,} are read")
    if header.components > 4 or header.bits > 16:
        raise _unsupported(shown, f"JPEG 2000 of {header.bits} bits and {header.components} colours")
    if header.bits == 8 and not header.is_signed:
        return _by_pillow(content, shown, limits)
    with _slot(header.width, header.height, shown, limits, 4 * header.components):
        return _of_stream(imagecodecs.jpeg2k_decode(content), header)


def _jpegxl(content: bytes, shown: str, limits: Limits) -> Image.Image:
    header = headers.jpegxl_header(content)
    if header is None:
        raise CutShort("it has no size")
    with _slot(header.width, header.height, shown, limits, MAX_BYTES_PER_PIXEL):
        values = imagecodecs.jpegxl_decode(content, index=0, numthreads=1)
        values = _seen(values)
        return Image.fromarray(values) if values.dtype == np.uint8 else gray_image(values)


def _pnm(content: bytes, shown: str, limits: Limits) -> Image.Image:
    header = deep_pnm(content)
    assert header is not None
    with _slot(header.width, header.height, shown, limits, 2 * header.channels):
        values = _first_or_luma(decode_pnm(content, header))
        return gray_image(values, None if header.white == 65535 else (0.0, float(header.white)))


def _tiff(content: bytes, shown: str, limits: Limits) -> Image.Image:
    try:
        tiff = open_tiff(content, shown, limits)
        is_plain = tiff.is_plain
    except (ImageError, CutShort):
        raise
    except Exception:
        tiff, is_plain = None, True
    if tiff is not None:
        check_size(tiff.width, tiff.height, shown, limits)
    if is_plain and (tiff is None or tiff.is_first):
        try:
            return _by_pillow(content, shown, limits, is_plain=True)
        except ImageError:
            raise
        except Exception as error:
            if tiff is None:
                raise
            if tiff.unsupported() is not None and not isinstance(error, UnidentifiedImageError):
                raise
    assert tiff is not None
    if (what := tiff.unsupported()) is not None:
        raise _unsupported(shown, f"TIFF, and {what} is not known")
    with _slot(tiff.width, tiff.height, shown, limits, 1):
        return tiff.decode()


def _by_pillow(content: bytes, shown: str, limits: Limits, is_plain: bool = False) -> Image.Image:
    """`is_plain`: refuse more than 8 bits, of which Pillow does not say what it makes of them."""
    with Image.open(io.BytesIO(content), formats=_PILLOW) as image:
        check_size(*image.size, shown, limits)
        is_deep = image.mode.startswith(("I", "F"))
        if is_plain and (
            is_deep or max(_numbers(image, 258), default=1) > 8 or max(_numbers(image, 339), default=1) > 1
        ):
            raise ValueError("its tags contradict each other")
        with _large(*image.size):
            image.load()
            # Damaged EXIF, which Pillow reports in many ways, says nothing about the pixels.
            with suppress(Exception):
                ImageOps.exif_transpose(image, in_place=True)
            return gray_image(np.asarray(image)) if is_deep else to_gray(image)


def to_gray(image: Image.Image) -> Image.Image:
    """An image of 8 bits or fewer a channel as mode L; pixels of mode L stay as they are."""
    if image.mode == "L":
        return image if type(image) is Image.Image else image.copy()
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # an alpha for each colour of the palette
    gray = (image if image.mode in ("RGB", "LA", "La") else image.convert("RGB")).convert("L")
    if image.mode in ("LA", "PA", "RGBA"):
        return Image.fromarray(seen(np.asarray(gray), np.asarray(image.getchannel("A"))))
    return gray


def _numbers(image: Image.Image, tag: int) -> tuple[int, ...]:
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def _of_stream(values: Values, header: StreamHeader) -> Image.Image:
    values = _first_or_luma(values)
    full = float(2**header.bits - 1)
    if header.bits <= 8 and values.dtype == np.uint8:
        return Image.fromarray(values if header.bits == 8 else plain(values, full, False))
    says_depth = header.bits < 16 and values.dtype.kind == "u"
    return gray_image(values, (0.0, full) if says_depth else None)


def _seen(values: Values) -> Values:
    """Gray, (height, width), of gray or colour with or without an alpha channel behind."""
    gray = _first_or_luma(values)
    return seen(gray, values[..., -1]) if values.ndim == 3 and values.shape[2] in (2, 4) else gray


def _first_or_luma(values: Values) -> Values:
    if values.ndim == 3 and values.shape[2] >= 3:
        return luma(values)
    if values.ndim == 3:
        return np.ascontiguousarray(values[..., 0])
    if values.ndim != 2:
        raise ValueError(f"its pixels are an array of {values.ndim} dimensions")
    return values


def check_size(width: int, height: int, shown: str, limits: Limits) -> None:
    """Raises ImageError `too-small` or `too-large` for sides and areas, in pixels, beyond `limits`."""
    if min(width, height) < limits.min_side:
        raise ImageError(
            "too-small",
            f"{shown} is {width} x {height} pixels; at least {limits.min_side} on each side are needed",
        )
    if width * height > limits.max_pixels:
        raise ImageError(
            "too-large",
            f"{shown} is {width} x {height} pixels; the limit is {limits.max_pixels:,} pixels in all",
        )


def _slot(
    width: int, height: int, shown: str, limits: Limits, per_pixel: int
) -> AbstractContextManager[object]:
    """Checks what decoding will cost, and waits until it may be spent."""
    check_size(width, height, shown, limits)
    if width * height * per_pixel > limits.max_pixels * MAX_BYTES_PER_PIXEL:
        raise ImageError(
            "too-large", f"{shown} takes {width * height * per_pixel:,} bytes when decoded; "
            f"the limit is {limits.max_pixels * MAX_BYTES_PER_PIXEL:,}",
        )  # fmt: skip
    return _large(width, height)


def _large(width: int, height: int) -> AbstractContextManager[object]:
    return pixel_budget.taking(width * height)


def _unsupported(shown: str, what: str) -> ImageError:
    return ImageError("unsupported", f"{shown} is {what}, which is not read; export it as PNG")


def _explained(error: Exception, content: bytes, shown: str) -> ImageError:
    cause = " ".join(repr(str(error))[1:-1].split()) or type(error).__name__
    unknown = isinstance(error, UnidentifiedImageError)
    if unknown and (name := _known_by_name(content)):
        return _unsupported(shown, name)
    is_cut = (
        "truncat" in cause.lower()
        or "NEED_MORE_INPUT" in cause
        or isinstance(error, EOFError | CutShort)
        or headers.is_cut_jpeg2000(content)
        or (unknown and headers.is_cut(content))
    )
    if is_cut:
        return ImageError("truncated", f"{shown} is cut short; copy it again from its source")
    if unknown and (content.startswith(_BEGINNINGS) or content[8:12] == b"WEBP"):
        cause = "its header contradicts itself"
    elif unknown:
        known = ", ".join(FORMATS)
        return ImageError("not-an-image", f"{shown} is not an image of a known format ({known})")
    if isinstance(error, MemoryError):
        return ImageError("too-large", f"{shown} does not fit into memory; lower the limit on pixels")
    return ImageError("not-an-image", f"{shown} is damaged and does not decode: {cause}")


def _known_by_name(content: bytes) -> str | None:
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12], "a video or an image of the ISO media family")
    return next((name for beginning, name in _NOT_READ if content.startswith(beginning)), None)
