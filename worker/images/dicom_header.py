"""The data elements of a DICOM file up to its pixels, read without converting, warning or logging."""

from __future__ import annotations

import io
import logging
import math
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom import config
from pydicom.charset import python_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_sequence_item
from pydicom.tag import BaseTag
from pydicom.uid import UID_dictionary

from worker.errors import ImageError
from worker.images.limits import Limits

# pydicom quotes values, identity among them, in its warnings and its log.
logging.getLogger("pydicom").propagate = False
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom|worker\.images\.dicom")
config.settings.reading_validation_mode = config.IGNORE

DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
IMPLICIT = "1.2.840.10008.1.2"
DIRECTORY = "1.2.840.10008.1.3.10"
_PIXEL_DATA = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_MAX_READS = 400_000  # some 150,000 elements: of a hostile file, whose reading would take minutes
_MAX_ITEMS = 16


class Elements:
    """A data set of which single elements are asked for; what is missing or unreadable is empty."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __contains__(self, keyword: str) -> bool:
        return _tag(keyword) in self._dataset

    def raw(self, keyword: str) -> RawDataElement | None:
        """The element as it lies in the file, None if there is none or it is a sequence."""
        tag = _tag(keyword)
        element = self._dataset.get_item(tag) if tag in self._dataset else None
        return element if isinstance(element, RawDataElement) and element.value is not None else None

    def content(self, keyword: str) -> bytes:
        """The bytes of the value."""
        element = self.raw(keyword)
        return element.value if element is not None and isinstance(element.value, bytes) else b""

    def texts(self, keyword: str) -> list[str]:
        """The values of an element of code strings, numbers in text or UIDs, without padding."""
        content = self.content(keyword).decode("latin-1")
        return [part.strip(" \0\t\r\n") for part in content.split("\\")] if content.strip(" \0") else []

    def text(self, keyword: str) -> str:
        """The first of the texts."""
        return next(iter(self.texts(keyword)), "")

    def identifier(self, keyword: str) -> str | None:
        """The whole value of an element that names somebody, each byte as a letter; None if it is empty. No
        backslash parts it: that may be a byte of a Chinese or Japanese letter, or have been typed."""
        return self.content(keyword).strip(b" \0\t\r\n").decode("latin-1") or None

    def readings(self, keyword: str) -> list[str]:
        """The whole value under each character set that it may be in: UTF-8, the one declared, Latin-1."""
        content = self.content(keyword).strip(b" \0")
        declared = [python_encoding.get(term, "") for term in self.texts("SpecificCharacterSet")]
        found = []
        for encoding in ("utf-8", *filter(None, declared), "latin-1"):
            try:
                found.append(content.decode(encoding))
            except (UnicodeDecodeError, LookupError):
                continue
        return found

    def printable(self, keyword: str) -> str | None:
        """The value in at most 64 letters, none of them a control character; None if there are none."""
        reading = next(iter(self.readings(keyword)), "")
        letters = (letter for letter in reading if unicodedata.category(letter)[0] != "C")
        return "".join(letters).strip()[:64] or None

    def floats(self, keyword: str) -> list[float]:
        """The numbers of an element of decimal or integer strings; empty if one of them is none."""
        try:
            numbers = [float(text) for text in self.texts(keyword)]
        except ValueError:
            return []
        return numbers if all(map(math.isfinite, numbers)) else []

    def first_float(self, keyword: str) -> float | None:
        """The first number of an element of decimal strings; None if there is none that is finite."""
        try:
            number = float(self.text(keyword))
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def words(self, keyword: str) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
        """The value as unsigned numbers of 16 bits, whatever the representation is called."""
        element = self.raw(keyword)
        content = self.content(keyword)
        order = ">u2" if element is not None and not element.is_little_endian else "<u2"
        return np.frombuffer(content[: len(content) // 2 * 2], order).astype(np.uint16)

    def integer(self, keyword: str) -> int | None:
        """The first whole number of a binary or textual element."""
        element = self.raw(keyword)
        if element is None:
            return None
        if element.VR in ("IS", "DS"):
            numbers = self.floats(keyword)
            return int(numbers[0]) if numbers else None
        if element.VR in ("UL", "SL") and len(element.value) >= 4:
            return int(struct.unpack_from("<I" if element.is_little_endian else ">I", element.value)[0])
        words = self.words(keyword)
        return int(words[0]) if len(words) else None

    def items(self, keyword: str) -> list[Elements]:
        """The items of a sequence, the first few of a long one."""
        raw = self.raw(keyword)
        try:
            if raw is None:
                sequence = self._dataset[_tag(keyword)].value if keyword in self else []
            else:
                sequence = _first_items(raw)
            return [Elements(item) for item in sequence[:_MAX_ITEMS] if isinstance(item, Dataset)]
        except Exception:  # of damaged sequences, many kinds
            return []

    def holds(self, keyword: str) -> bool:
        """Whether there is an element that is not empty, readable or not."""
        raw = self.raw(keyword)
        return bool(raw.value) if raw is not None else bool(self.items(keyword))


@dataclass(frozen=True)
class Header:
    """`elements` of the data set in front of the pixels, which begin at `pixel_start` of `content`, inflated
    where the file is deflated. `is_cut`: the data ended within an element."""

    elements: Elements
    content: bytes
    transfer_syntax: str
    sop_class: str
    is_little_endian: bool
    pixel_start: int | None
    is_cut: bool

    @property
    def syntax_name(self) -> str:
        """The transfer syntax in the words of the standard."""
        return name_of_uid(self.transfer_syntax) or "an unnamed transfer syntax"


def read_header(content: bytes, shown: str, limits: Limits) -> Header:
    """The header of the DICOM file `content`, with or without preamble and file meta information.

    Raises ImageError `truncated` for a file that ends in the header, `not-an-image` for what cannot be read.
    """
    uids, start = _read_meta(content)
    syntax = uids.get(0x0010, "")
    if syntax == DEFLATED:
        content, start = _inflated(content[start:], shown, limits), 0
    stream = _CountedStream(content, shown)
    stream.seek(start)
    implicit, little = _encoding(content, start, syntax)

    def is_pixel_data(tag: BaseTag, representation: str | None, length: int) -> bool:
        return tag in _PIXEL_DATA

    try:
        dataset = read_dataset(stream, implicit, little, stop_when=is_pixel_data)
    except (struct.error, EOFError):
        dataset = Dataset()
    if stream.was_short:
        _drop_cut_element(dataset)
    elements = Elements(dataset)
    end = stream.tell()
    pixel_start = end if _tag_at(content, end, little) in _PIXEL_DATA else None
    # Where an element has no end, pydicom gives an empty data set.
    is_cut = pixel_start is None and (stream.was_short or not len(elements))
    sop_class = elements.text("SOPClassUID") or uids.get(0x0002, "")
    if not (elements.text("SOPClassUID") or "Rows" in elements or "Modality" in elements):
        if is_cut and uids.get(0x0002) != DIRECTORY:
            raise ImageError("truncated", f"{shown} is DICOM cut short in its header; copy it again")
        if not uids:
            raise ImageError("not-an-image", f"{shown} begins like DICOM but holds no image")
    return Header(elements, content, syntax, sop_class, little, pixel_start, is_cut)


def name_of_uid(uid: str) -> str:
    """The name that the standard gives to `uid`; a UID it does not know as it is, without other letters."""
    if uid in UID_dictionary:
        return str(UID_dictionary[uid][0])
    return "".join(letter for letter in uid[:64] if letter in "0123456789.")


def _first_items(sequence: RawDataElement) -> list[Dataset]:
    """Items of a sequence of defined length (PS3.5, 7.5). One of unknown representation is implicit."""
    stream = _CountedStream(sequence.value or b"", "it")
    is_implicit = sequence.is_implicit_VR or sequence.VR == "UN"
    items: list[Dataset] = []
    while len(items) < _MAX_ITEMS and stream.tell() < sequence.length:
        item = read_sequence_item(stream, is_implicit, sequence.is_little_endian, "iso8859")
        if item is None:
            break
        items.append(item)
    return items


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


def _read_meta(content: bytes) -> tuple[dict[int, str], int]:
    """The UIDs of the file meta information (PS3.10, section 7.1) by element number, and where it ends."""
    start = 132 if content[128:132] == b"DICM" else 0
    uids = {}
    for number, value, end in _meta_elements(content, start):
        uids[number] = value.strip(b" \0").decode("latin-1")
        start = end
    return uids, start


def _meta_elements(content: bytes, start: int) -> Iterator[tuple[int, bytes, int]]:
    while content[start : start + 2] == b"\2\0" and start + 12 <= len(content):
        number = struct.unpack_from("<H", content, start + 2)[0]
        if content[start + 4 : start + 6] in (b"OB", b"UN", b"OW", b"UT", b"SQ"):
            length, header = struct.unpack_from("<I", content, start + 8)[0], 12
        elif content[start + 4 : start + 6].isalpha():
            length, header = struct.unpack_from("<H", content, start + 6)[0], 8
        else:  # against the standard, implicit
            length, header = struct.unpack_from("<I", content, start + 4)[0], 8
        end = start + header + length
        if end > len(content):
            return
        yield number, content[start + header : end][:256], end
        start = end


def _encoding(content: bytes, start: int, syntax: str) -> tuple[bool, bool]:
    """Whether the data set is of implicit VR, and whether it is little endian."""
    if syntax:
        return syntax == IMPLICIT, syntax != BIG_ENDIAN
    is_little = content[start + 1 : start + 2] == b"\0"
    return not content[start + 4 : start + 6].isalpha(), is_little


def _drop_cut_element(dataset: Dataset) -> None:
    """Leave out the last element if the data ended in its value, which may then be read as another."""
    last = next(reversed(list(dataset.keys())), None)
    element = dataset.get_item(last) if last is not None else None
    if isinstance(element, RawDataElement) and len(element.value or b"") < element.length != 0xFFFFFFFF:
        del dataset[element.tag]


def _tag_at(content: bytes, start: int, little: bool) -> int:
    if start + 8 > len(content):
        return 0
    group, element = struct.unpack_from("<HH" if little else ">HH", content, start)
    return int(group << 16 | element)


def _inflated(deflated: bytes, shown: str, limits: Limits) -> bytes:
    for window_bits in (-zlib.MAX_WBITS, zlib.MAX_WBITS):
        inflater = zlib.decompressobj(window_bits)
        try:
            content = inflater.decompress(deflated, limits.max_bytes + 1)
        except zlib.error:
            continue
        if len(content) > limits.max_bytes:
            raise ImageError(
                "too-large", f"{shown} inflates to more than the limit of {limits.max_bytes:,} bytes"
            )
        if not inflater.eof:
            raise ImageError("truncated", f"{shown} is deflated DICOM cut short; copy it again")
        return content
    raise ImageError("not-an-image", f"{shown} is damaged: its deflated data set does not inflate")


class _CountedStream(io.BytesIO):
    """Notices a read beyond the end, and ends the reading of headers made to take hours."""

    def __init__(self, content: bytes, shown: str) -> None:
        super().__init__(content)
        self.was_short = False
        self._reads = 0
        self._shown = shown

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise ImageError("not-an-image", f"{self._shown} is damaged: its header has no end")
        part = super().read(size)
        if size is not None and 0 < len(part) < size:
            self.was_short = True
        return part
