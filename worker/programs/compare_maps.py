"""Draws maps of layers and methods side by side: `python -m worker.programs.compare_maps OUTPUT SOURCE ...`.

Writes a PNG for each image into OUTPUT. A program of its own, so that the command line needs no TensorFlow.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from worker.errors import ImageError, XraycamError
from worker.explain.explainer import Explainer
from worker.explain.names import PREDICTED
from worker.explain.options import ARGMAX_TARGET
from worker.explain.overlay import blend, encode, lookup_table, write_atomically
from worker.images.preprocess import preprocess
from worker.images.reader import Radiograph, limits_of, read_radiograph
from worker.map_evaluation.plots import comparison
from worker.map_evaluation.sample import image_files
from worker.model.network import load_model
from worker.programs.model_program import model_folder, print_progress, run_program
from worker.settings import load_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--model", help="a version; without it the current one")
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument("--method", action="append", default=[])
    parser.add_argument("--target", default=PREDICTED)
    parser.add_argument("--colormap", default="inferno")
    parser.add_argument("--opacity", type=float, default=0.5)
    parser.add_argument("--limit", type=int, required=True)
    given = parser.parse_args()
    settings = load_settings()
    description, network = load_model(model_folder(settings, given.model))
    target = ARGMAX_TARGET if given.target == PREDICTED else description.require_class(given.target)
    explainer = Explainer(description, network, given.layer, given.method)
    limits = limits_of(settings)
    drawn = 0
    for file in image_files(given.source):
        if drawn == given.limit:
            print_progress(f"the first {drawn} images only; --limit gives more")
            break
        try:
            radiograph = read_radiograph(file, limits)
            picture = _compared(explainer, radiograph, file.name, target, given.colormap, given.opacity)
            below = file.name if given.source.is_file() else file.relative_to(given.source)
            write_atomically(encode(picture, "png"), given.output / f"{below}.png")
        except ImageError as error:
            print_progress(f"left out: {error}")
            continue
        drawn += 1
        if drawn % 10 == 0:
            print_progress(f"{drawn} images compared")
    if not drawn:
        raise XraycamError(f"{given.source} holds no image that can be read; name a radiograph or a folder")


def _compared(
    explainer: Explainer, radiograph: Radiograph, name: str, target: int, colormap: str, opacity: float
) -> Any:
    description = explainer.metadata
    pixels = preprocess(radiograph, description.preprocessing)[None]
    found = explainer.explain(pixels, [target])
    box = description.preprocessing.box(radiograph.width, radiograph.height)
    table = lookup_table(colormap)
    panels = {
        (panel.layer, panel.method.name): blend(
            radiograph.pixels, found.heatmaps[panel.name][0], box, table, opacity
        )
        for panel in explainer.panels
    }
    best, target_index = int(found.scores[0].argmax()), int(found.target_index[0])
    title = (
        f"{name}: predicted {description.classes[best]}, probability {found.probabilities[0, best]:.3f}; "
        f"where the score of {description.classes[target_index]} came from, model {description.version}"
    )
    methods = [method.name for method in explainer.methods]
    return comparison(title, radiograph.pixels.convert("RGB"), explainer.layers, methods, panels)


if __name__ == "__main__":
    run_program(main)
