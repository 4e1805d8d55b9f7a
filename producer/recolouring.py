"""Overlays in other colours, from kept heatmaps: several at a time, each written whole or not at all."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from db.ledger import Ledger
from db.query import Filter, read_predictions
from db.runs import Run
from worker.errors import XraycamError
from worker.explain.options import ExplainOptions
from worker.explain.overlay import encode, recolour, write_atomically
from worker.explain.read import limits_of
from worker.settings import Settings


def recolour_run(
    settings: Settings, ledger: Ledger, run: Run, colormap: str, opacity: float
) -> Iterator[str | None]:
    """Redraw the overlays of a run's done images; for each, None or why it was left as it was.

    Raises XraycamError when the run kept no heatmaps.
    """
    options = ExplainOptions.model_validate({**run.options, "colormap": colormap, "opacity": opacity})
    if not options.heatmaps:
        raise XraycamError(
            f"run {run.id} kept no heatmaps; run the folder with --heatmaps to be able to change its colours"
        )
    limits = limits_of(settings)

    def redraw(row: dict[str, Any]) -> str | None:
        overlay = Path(row["overlay"])
        try:
            picture = recolour(Path(row["path"]), Path(row["heatmap"]), options, limits)
            write_atomically(encode(picture, options.output_format), overlay, Path(run.output))
        except XraycamError as error:
            return str(error)
        return None

    threads = os.cpu_count() or 1
    waiting: deque[Future[str | None]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for row in read_predictions(ledger, Filter(run=run.id, status="done")):
            waiting.append(pool.submit(redraw, row))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
