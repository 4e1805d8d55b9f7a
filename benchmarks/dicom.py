"""The DICOM reader by transfer syntax: milliseconds a megapixel.

    python -m benchmarks.dicom                                    # a picture that is drawn
    python -m benchmarks.dicom --image ../shared/data/dicom/rg1_jpeg_lossless.dcm

One radiograph of 15 bits, for JPEG Baseline and Extended of its upper 8 and 12, is written under each syntax
and read again on one thread: `decode` is from the compressed stream to stored values, `whole` from the bytes
of the file to the picture and its facts, `processor` the processor time of that, which other work on the
machine lengthens less. Medians. The last line is Pillow's reading of the 8-bit PNG of it.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless

from worker.images.dicom import decode_dicom
from worker.images.dicom_frames import first_frame, read_format
from worker.images.dicom_header import read_header
from worker.images.dicom_rendering import look_up, stored_values
from worker.images.limits import Limits
from worker.images.reader import read_radiograph

Values = np.ndarray[Any, np.dtype[Any]]

_JPEG = "1.2.840.10008.1.2.4."
# By name: transfer syntax, bits kept, and encoder; None for pixels that are not compressed.
SYNTAXES: dict[str, tuple[str, int, Callable[[Values], bytes] | None]] = {
    "implicit": ("1.2.840.10008.1.2", 15, None),
    "explicit": ("1.2.840.10008.1.2.1", 15, None),
    "big endian": ("1.2.840.10008.1.2.2", 15, None),
    "deflated": ("1.2.840.10008.1.2.1.99", 15, None),
    "RLE": (RLELossless, 15, lambda _: b""),
    "JPEG, 8 bit": (_JPEG + "50", 8, lambda values: imagecodecs.jpeg8_encode(values, level=92)),
    "JPEG, 12 bit": (
        _JPEG + "51",
        12,
        lambda values: imagecodecs.jpeg8_encode(values, level=92, bitspersample=12),
    ),
    "JPEG lossless": (
        _JPEG + "70",
        15,
        lambda values: imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=15),
    ),
    "JPEG-LS": (_JPEG + "80", 15, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        _JPEG + "90",
        15,
        lambda values: imagecodecs.jpeg2k_encode(values, codecformat="j2k", level=0, reversible=True),
    ),
    "JPEG 2000, lossy": (
        _JPEG + "91",
        15,
        lambda values: imagecodecs.jpeg2k_encode(values, codecformat="j2k", level=75),
    ),
    "HTJ2K": (_JPEG + "201", 15, imagecodecs.htj2k_encode),
}


@click.command()
@click.option("--image", type=click.Path(path_type=Path, exists=True), help="A DICOM file of 15 bits.")
@click.option("--repeats", default=7, show_default=True)
def main(image: Path | None, repeats: int) -> None:
    values = drawn() if image is None else stored(image)
    megapixels = values.size / 1e6
    print(f"{values.shape[1]} x {values.shape[0]} pixels, {megapixels:.1f} megapixels; ms a megapixel")
    print(f"{'':18} {'bytes':>12} {'decode':>8} {'whole':>8} {'processor':>10}")
    for name, (syntax, bits, encode) in SYNTAXES.items():
        content = written(values, syntax, bits, encode)
        header = read_header(content, name, Limits())
        form = read_format(header, name, Limits())
        decode, _ = milliseconds(lambda h=header, f=form: first_frame(h, f, "", frozenset()), repeats)
        whole, processor = milliseconds(lambda c=content: decode_dicom(c, "", Limits()), repeats)
        figures = f"{decode / megapixels:8.1f} {whole / megapixels:8.1f} {processor / megapixels:10.1f}"
        print(f"{name:18} {len(content):12,} {figures}")
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "gray.png"
        decode_dicom(content, "", Limits()).pixels.save(png)
        whole, processor = milliseconds(lambda: read_radiograph(png, Limits()), repeats)
        figures = f"{'':8} {whole / megapixels:8.1f} {processor / megapixels:10.1f}"
        print(f"{'PNG':18} {png.stat().st_size:12,} {figures}")


def milliseconds(read: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Medians of `repeats`, of time and of processor time, after one that does not count."""
    read()
    taken, processor = [], []
    for _ in range(repeats):
        start, start_processor = time.perf_counter(), time.process_time()
        read()
        taken.append((time.perf_counter() - start) * 1000)
        processor.append((time.process_time() - start_processor) * 1000)
    return statistics.median(taken), statistics.median(processor)


def drawn() -> Values:
    """A picture of 3.6 megapixels as smooth and as noisy as a computed radiograph."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:1955, :1841]
    shape = 14000 + 8000 * np.sin(x / 300) * np.cos(y / 500)
    return (shape + random.normal(0, 60, shape.shape)).clip(0, 32767).astype(np.uint16)


def stored(image: Path) -> Values:
    """The stored values of a DICOM file."""
    header = read_header(image.read_bytes(), image.name, Limits())
    form = read_format(header, image.name, Limits())
    frame = first_frame(header, form, image.name, frozenset())
    return look_up(stored_values(form, frame), frame.values).astype(np.uint16)


def written(values: Values, syntax: str, bits: int, encode: Callable[[Values], bytes] | None) -> bytes:
    """`values`, of 15 bits, as a DICOM file that keeps `bits` of them."""
    kept = (values >> (15 - bits)).astype(np.uint8 if bits == 8 else np.uint16)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.Rows, dataset.Columns = kept.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = kept.itemsize * 8, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 1 << (bits - 1), 1 << bits
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1" if syntax == RLELossless else syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    if encode is None or syntax == RLELossless:
        dataset.PixelData = kept.astype(kept.dtype.newbyteorder(order)).tobytes()
        dataset["PixelData"].VR = "OW"
    else:
        dataset.PixelData = encapsulate([bytes(encode(kept))])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    if syntax == RLELossless:
        plain = pydicom.dcmread(io.BytesIO(stream.getvalue()))
        plain.compress(RLELossless)
        stream = io.BytesIO()
        plain.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


if __name__ == "__main__":
    main()
