"""Explains a folder and prints what became of its files: `read_corpus.py FOLDER MODEL OUT`."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.pipeline import ImageTask, Pipeline
from worker.file_names import escape_path
from worker.images.limits import Limits
from worker.model.network import load_model


def main(folder: Path, model: Path, out: Path) -> None:
    explainer = Explainer(*load_model(model))
    explainer.warm_up(16)
    names = sorted(file.name for file in folder.iterdir())
    items = [
        ImageTask(number, folder / name, out / (escape_path(name) + ".jpg"), escape_path(name), folder, out)
        for number, name in enumerate(names)
    ]
    before = memory()
    slowest, last = 0.0, time.monotonic()

    def progress() -> None:
        nonlocal slowest, last
        slowest, last = max(slowest, time.monotonic() - last), time.monotonic()

    found: dict[str, Any] = {}
    with Pipeline(readers=2, renderers=2, batch_size=16, limits=Limits()) as pipeline:
        for outcome in pipeline.run(explainer, items, ExplainOptions(), progress):
            assert outcome.task.name not in found
            found[outcome.task.name] = [outcome.reason, outcome.error, outcome.overlay is not None]
    print(
        json.dumps(
            {"outcomes": found, "bytes": memory() - before, "before": before, "slowest_batch": slowest}
        )
    )


def memory() -> int:
    """The most memory this process has held so far, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
