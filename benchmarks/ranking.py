"""How long ranking 12 layer-method pairs on 64 images takes.

    python -m benchmarks.ranking ../shared/data/shenzhen

Of the starter model. Processor time is shown beside time, since a machine seldom has only this to do.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from worker.map_evaluation.ranking import rank
from worker.map_evaluation.sample import draw_sample
from worker.model.network import load_model
from worker.model.store import STARTER


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path, help="a folder of radiographs")
    parser.add_argument("--images", type=int, default=64)
    given = parser.parse_args()
    description, network = load_model(STARTER)
    sample = draw_sample(given.dataset, description, given.images)
    started, used = time.perf_counter(), time.process_time()
    ranking = rank(description, network, sample.pixels)
    found = {
        "pairs": len(ranking.pairs),
        "images": ranking.images,
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - used, 1),
        "processors": os.cpu_count(),
        "best": ranking.best.name,
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
