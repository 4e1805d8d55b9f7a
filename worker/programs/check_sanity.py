"""Tests whether a version's maps depend on its weights: `python -m worker.programs.check_sanity OUTPUT ...`.

Writes OUTPUT/sanity.json and OUTPUT/sanity.png. A program of its own, so that the command line needs no
TensorFlow.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from worker.images.reader import limits_of
from worker.map_evaluation.plots import plot_sanity
from worker.map_evaluation.reports import SANITY_FILE
from worker.map_evaluation.sample import draw_sample
from worker.map_evaluation.sanity import check_sanity
from worker.model.network import load_model
from worker.programs.model_program import model_folder, print_progress, run_program
from worker.settings import load_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", help="a version; without it the current one")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--layer")
    parser.add_argument("--method")
    given = parser.parse_args()
    settings = load_settings()
    description, network = load_model(model_folder(settings, given.model))
    limits = limits_of(settings)
    sample = draw_sample(given.dataset, description, given.images, limits=limits, on_message=print_progress)
    found = check_sanity(
        description,
        network,
        sample.pixels,
        layer=given.layer,
        method=given.method,
        progress=lambda done, of: print_progress(f"{done} of {of} stages randomised"),
    )
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / SANITY_FILE).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    plot_sanity(found, given.output / "sanity.png")


if __name__ == "__main__":
    run_program(main)
