"""Maps of several layers and methods of a radiograph, side by side in one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from worker.errors import ImageError, XraycamError
from worker.explain.blending import blend, lookup_table
from worker.explain.explainer import Explainer
from worker.explain.options import Panel
from worker.explain.overlay import encode, reduced, write_atomically
from worker.folder_walk import image_files
from worker.images.limits import Limits
from worker.images.preprocess import preprocess
from worker.images.reader import Radiograph, read_radiograph
from worker.map_evaluation.plots import comparison


def compare_maps(
    explainer: Explainer,
    source: Path,
    output: Path,
    *,
    target: int,
    colormap: str,
    opacity: float,
    overlay_side: int | str,
    limit: int,
    limits: Limits,
    on_message: Callable[[str], object],
) -> int:
    """Write a PNG into `output` for each of up to `limit` images of `source`, a file or a folder; how many.

    Panels have `overlay_side` pixels on the longer side at most, or FULL, the image's own; at least
    LEAST_PANEL. `target` is a class index, or `ARGMAX_TARGET`; an explainer of every class has a row for
    each. Files that cannot be read are told of and left out. Raises XraycamError if none is left.
    """
    drawn = 0
    for file in image_files(source):
        if drawn == limit:
            on_message(f"the first {drawn} images only; --limit gives more")
            break
        try:
            radiograph = read_radiograph(file, limits)
            picture = _compared(explainer, radiograph, file.name, target, colormap, opacity, overlay_side)
            below = file.name if source.is_file() else file.relative_to(source)
            write_atomically(encode(picture, "png"), output / f"{below}.png")
        except ImageError as error:
            on_message(f"left out: {error}")
            continue
        drawn += 1
        if drawn % 10 == 0:
            on_message(f"{drawn} images compared")
    if not drawn:
        raise XraycamError(f"{source} holds no image that can be read; name a radiograph or a folder")
    return drawn


def _compared(
    explainer: Explainer,
    radiograph: Radiograph,
    name: str,
    target: int,
    colormap: str,
    opacity: float,
    overlay_side: int | str,
) -> Any:
    description = explainer.metadata
    pixels = preprocess(radiograph, description.preprocessing)[None]
    found = explainer.explain(pixels, [target])
    gray = reduced(radiograph, overlay_side).pixels
    box = description.preprocessing.box(gray.width, gray.height)
    table = lookup_table(colormap)
    panels = {
        (panel.layer, row_name(panel, description.classes)): blend(
            gray, found.heatmaps[panel.name][0], box, table, opacity
        )
        for panel in explainer.panels
    }
    best, target_index = int(found.scores[0].argmax()), int(found.target_index[0])
    of = "each class" if explainer.every_class else description.classes[target_index]
    word = "most probable finding" if description.has_findings else "predicted"
    title = (
        f"{name}: {word} {description.classes[best]}, probability {found.probabilities[0, best]:.3f}; "
        f"where the score of {of} came from, model {description.version}"
    )
    rows = list(dict.fromkeys(row for _, row in panels))
    return comparison(title, gray.convert("RGB"), explainer.layers, rows, panels)


def row_name(panel: Panel, classes: Sequence[str]) -> str:
    """The row that a panel stands in: its method, and its class where every class is explained."""
    return panel.method.name + ("" if panel.class_index is None else f" {classes[panel.class_index]}")
