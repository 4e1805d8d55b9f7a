"""What is in a gzip file, from any place on: inflated once, then from the nearest place kept."""

from __future__ import annotations

import bisect
import io
import os
import zlib
from dataclasses import dataclass
from typing import Any

from worker.errors import ImageError

# Some 40 kB each, so that what is kept of a file is bounded.
_PLACES = 256
_FIRST_DISTANCE = 1_000_000  # bytes of output between places kept, twice as many each time there are too many
MAX_INFLATED = 4_000_000_000  # bytes, some ten seconds to inflate
_PIECE = 256 * 1024


@dataclass
class _Place:
    """A state of inflating: `position` bytes came out of the first `consumed` bytes of the file."""

    position: int
    consumed: int
    inflater: Any  # zlib's, which has no public type


class GzipStream(io.RawIOBase):
    """A gzip file (RFC 1952), of several members too, as a stream with `seek`; for one thread at a time.

    Nothing is written to the disk; memory is bounded whatever the file holds. Raises EOFError or zlib.error
    for a file that is cut short or damaged, ImageError `too-large` beyond MAX_INFLATED.
    """

    def __init__(self, descriptor: int, shown: str) -> None:
        """`descriptor` is closed with the stream. `shown`: the file's name in messages."""
        super().__init__()
        self._file = io.FileIO(descriptor, "rb")
        self._shown = shown
        self._places = [_Place(0, 0, _inflater())]
        self._distance = _FIRST_DISTANCE
        self._size: int | None = None
        self._restore(self._places[0])
        self._wanted = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._wanted

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            if self._size is None:
                while self._inflate(_PIECE):
                    pass
            offset += self._size or 0
        elif whence == os.SEEK_CUR:
            offset += self._wanted
        self._wanted = max(offset, 0)
        return self._wanted

    def readinto(self, buffer: Any, /) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            raise ValueError("how much is to be told")
        if not self._position <= self._wanted < self._position + self._distance:
            nearest = bisect.bisect_right(self._places, self._wanted, key=lambda place: place.position) - 1
            if not self._position <= self._wanted or self._places[nearest].position > self._position:
                self._restore(self._places[nearest])
        while self._position < self._wanted:
            if not self._inflate(min(_PIECE, self._wanted - self._position)):
                return b""
        parts = []
        while size > 0 and (part := self._inflate(min(_PIECE, size))):
            parts.append(part)
            size -= len(part)
        self._wanted = self._position
        return b"".join(parts)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _restore(self, place: _Place) -> None:
        self._position, self._consumed, self._inflater = (
            place.position,
            place.consumed,
            place.inflater.copy(),
        )
        self._pending = b""

    def _inflate(self, size: int) -> bytes:
        """The next bytes, `size` at most; none at the end."""
        while True:
            if not self._pending:
                self._pending = os.pread(self._file.fileno(), _PIECE // 4, self._consumed)
                if not self._pending and not self._inflater.eof:
                    raise EOFError
            if self._inflater.eof:
                # Members may follow, and zeros that fill up a block of a tape.
                before = len(self._pending)
                self._pending = self._pending.lstrip(b"\0")
                self._consumed += before - len(self._pending)
                if not self._pending.startswith(b"\x1f"):
                    self._size = self._position
                    return b""
                self._inflater = _inflater()
            before = len(self._pending)
            content: bytes = self._inflater.decompress(self._pending, size)
            rest = self._inflater.unused_data or self._inflater.unconsumed_tail
            self._consumed += before - len(rest)
            self._pending = rest
            if content:
                self._position += len(content)
                self._keep_place()
                return content

    def _keep_place(self) -> None:
        if self._position > MAX_INFLATED:
            raise ImageError(
                "too-large",
                f"{self._shown}: inflates to more than {MAX_INFLATED:,} bytes; unpack it, or use zip",
            )
        if self._inflater.eof or self._position < self._places[-1].position + self._distance:
            return
        self._places.append(_Place(self._position, self._consumed, self._inflater.copy()))
        if len(self._places) > _PLACES:
            self._places = self._places[::2]
            self._distance *= 2


def _inflater() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)
