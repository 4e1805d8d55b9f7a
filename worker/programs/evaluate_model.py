"""Measures a version on a labelled folder: `python -m worker.programs.evaluate_model DATASET OUTPUT ...`.

Writes OUTPUT/metrics.json and pictures. A program of its own, so that the command line needs no TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from db.errors import LedgerError
from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model, get_model
from worker.errors import XraycamError
from worker.images.reader import limits_of
from worker.model.metadata import METRICS_FILE
from worker.model.network import load_model
from worker.model.store import ModelStore, ensure_current_model, store_of
from worker.settings import Settings, load_settings
from worker.train.dataset import load_labelled_folder
from worker.train.evaluation import EvaluationResult, measured, predict_logits


def evaluate_model(
    settings: Settings, model: Model, store: ModelStore, folder: Path, output: Path
) -> EvaluationResult:
    """Measure `model` on all images of `folder`, whose sub-folders are named as its classes.

    Calibration uses the temperature of the version's own validation part. Raises XraycamError.
    """
    description, network = load_model(store.fetch(model.version, model.digest))
    limits = limits_of(settings)
    _tell(f"reading {folder}")
    dataset = load_labelled_folder(
        folder, classes=description.classes, min_per_class=1, limits=limits, memory=0, samples=True
    )
    for item in dataset.skipped:
        _tell(f"left out: {item.message}")
    total = len(dataset)
    step = max(1, total // 10)
    seen = 0

    def progress(done: int) -> None:
        nonlocal seen
        if done // step > seen // step or done == total:
            _tell(f"{done} of {total} images predicted")
        seen = done

    scores = predict_logits(network, description.preprocessing, dataset, progress=progress)
    temperature = description.training.get("validation", {}).get("temperature", 1.0)
    found = measured(dataset, range(total), scores, temperature)
    content = {
        "model": model.version,
        "dataset": str(folder),
        "digest": dataset.digest,
        "skipped": found.skipped,
        "figures": found.figures,
    }
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (output / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
    found.draw(output)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="a version; without it the current one")
    arguments = parser.parse_args()
    settings = load_settings()
    ledger = Ledger(settings.database, retry_timeout=5.0)
    migrate(ledger)
    store = store_of(settings)
    model = get_model(ledger, arguments.model) if arguments.model else ensure_current_model(ledger, store)
    evaluate_model(settings, model, store, arguments.dataset, arguments.output)


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        main()
    except (XraycamError, LedgerError) as error:
        _tell(f"xraycam: {error}")
        sys.exit(error.exit_status)
