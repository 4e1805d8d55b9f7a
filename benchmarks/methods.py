"""What several methods in one run cost, as a multiple of Grad-CAM alone.

    python -m benchmarks.methods

Batches of noise through the starter model at its default layer, in turns, so that other load on the machine
hits all alike; the ratio is that of the fastest times. Score-CAM is timed alone, an image.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from worker.explain.cam import METHODS
from worker.explain.explainer import Explainer
from worker.model.network import load_model
from worker.model.store import STARTER


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--layer", default="block_15_add")
    given = parser.parse_args()
    description, network = load_model(STARTER)
    side = description.preprocessing.size
    batch = np.random.default_rng(0).integers(0, 256, (given.batch, side, side), np.uint8)
    together = [name for name in METHODS if name != "scorecam"]
    explainers = {
        "gradcam": Explainer(description, network, [given.layer], "gradcam"),
        "six methods": Explainer(description, network, [given.layer], together),
        "every class": Explainer(description, network, [given.layer], "gradcam", every_class=True),
    }
    fastest = dict.fromkeys(explainers, float("inf"))
    for explainer in explainers.values():
        explainer.warm_up(given.batch)
    for _ in range(given.rounds):
        for name, explainer in explainers.items():
            started = time.perf_counter()
            explainer.explain(batch)
            fastest[name] = min(fastest[name], time.perf_counter() - started)
    score_cam = Explainer(description, network, [given.layer], "scorecam")
    score_cam.warm_up()
    started = time.perf_counter()
    score_cam.explain(batch[:1])
    seconds = time.perf_counter() - started
    found = {
        "layer": given.layer,
        "milliseconds_an_image": {name: round(1000 * s / given.batch, 2) for name, s in fastest.items()},
        "times_gradcam": {name: round(s / fastest["gradcam"], 2) for name, s in fastest.items()},
        "scorecam_seconds_an_image": round(seconds, 2),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
