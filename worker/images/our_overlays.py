"""Overlays of ours that were copied out of their folder: no radiographs, though pictures of some."""

from __future__ import annotations

# As `worker.explain.overlay.encode` writes it: a text of PNG, or the Software of EXIF.
_IN_PNG, _IN_EXIF = b"iTXtxraycam\0", b"\0xraycam\0"
# JPEG and PNG have it before the pixels, WebP behind them.
_BYTES = 70_000


def is_overlay(content: bytes) -> bool:
    """Whether a file's content is an overlay that xraycam drew with what it says of itself."""
    if content.startswith(b"\x89PNG"):
        return _IN_PNG in content[:_BYTES]
    if content.startswith(b"\xff\xd8\xff"):
        return b"Exif\0\0" in content[:64] and _IN_EXIF in content[:_BYTES]
    return content.startswith(b"RIFF") and content[8:12] == b"WEBP" and _IN_EXIF in content[-_BYTES:]
