"""Ranks a version's layers and methods: `python -m worker.programs.rank_layers DATASET OUTPUT ...`.

Writes OUTPUT/ranking.json and OUTPUT/ranking.png. A program of its own, so that the command line needs no
TensorFlow.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from worker.images.masks import load_masks
from worker.images.reader import limits_of
from worker.map_evaluation.plots import plot_ranking
from worker.map_evaluation.ranking import METHODS, rank
from worker.map_evaluation.reports import RANKING_FILE
from worker.map_evaluation.sample import draw_sample
from worker.model.network import load_model
from worker.programs.model_program import model_folder, print_progress, run_program
from worker.settings import load_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="a version; without it the current one")
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument("--method", action="append", default=[])
    given = parser.parse_args()
    settings = load_settings()
    description, network = load_model(model_folder(settings, given.model))
    limits = limits_of(settings)
    print_progress(f"reading {given.images} images of {given.dataset}")
    sample = draw_sample(given.dataset, description, given.images, limits=limits, on_message=print_progress)
    marked = None
    if given.masks is not None:
        marked = draw_sample(
            given.dataset,
            description,
            given.images,
            marked=load_masks(given.masks),
            only_marked=True,
            limits=limits,
            on_message=print_progress,
        )
    ranking = rank(
        description,
        network,
        sample.pixels,
        layers=given.layer,
        methods=given.method or METHODS,
        marked=marked,
        progress=lambda done, of: print_progress(f"{done} of {of} images measured"),
    )
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / RANKING_FILE).write_text(ranking.model_dump_json(indent=1) + "\n", encoding="utf-8")
    plot_ranking(ranking, given.output / "ranking.png")


if __name__ == "__main__":
    run_program(main)
