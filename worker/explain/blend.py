"""One heatmap over one radiograph. All loops over pixels are Pillow's, which lets other threads run."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from worker.explain.colormap import Table

Heatmap = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]

# Colours are laid on in bands of rows: those of an image of 100 megapixels at once need 400 MB.
_ROWS = 1024


def blend(gray: Image.Image, heatmap: Heatmap, box: Box, table: Table, opacity: float) -> Image.Image:
    """`gray` (mode L) as RGB with `heatmap`, float (h, w) in 0..1, laid over `box` of it (pixels).

    The heatmap is resized bilinearly with half-pixel centres. The share of colour is `opacity` times the
    heat, so that where the heat is 0 (or below 1/510) a pixel is exactly the gray of the radiograph.
    """
    result = gray.convert("RGB")
    if not heatmap.any():
        return result
    left, upper, right, lower = (round(edge) for edge in box)
    levels = Image.fromarray((heatmap.astype(np.float32) * 255 + np.float32(0.5)).astype(np.uint8))
    heat = levels.resize((right - left, lower - upper), Image.Resampling.BILINEAR)
    shares, palette = [round(opacity * level) for level in range(256)], table.tobytes()
    for top in range(0, heat.height, _ROWS):
        band = heat.crop((0, top, heat.width, min(top + _ROWS, heat.height)))
        share = band.point(shares)
        band.putpalette(palette)
        result.paste(band.convert("RGB"), (left, upper + top), share)
    return result
