"""The weight-randomisation test as people read it."""

from __future__ import annotations

from rich.table import Table

from worker.trust.sanity_figures import Sanity
from worker.trust.similarity import Similarity


def sanity_table(found: Sanity) -> Table:
    """Stages from the head down, then what unrelated maps have in common."""
    table = Table(
        title=f"model {found.model}, {found.layer} {found.method}, {found.images} images: similarity to the "
        "trained model's maps; 95% intervals",
        title_justify="left",
    )
    table.add_column("weights random from the scores down to")
    for name in ("rank correlation", "structural similarity", "blank maps"):
        table.add_column(name, justify="right")
    for stage in found.stages:
        table.add_row(stage.part, *_cells(stage.similarity), str(stage.blank or ""))
    table.add_section()
    table.add_row("maps of unrelated images", *_cells(found.unrelated), "")
    return table


def _cells(found: Similarity) -> list[str]:
    return [f"{m.value:.2f} ({m.low:.2f} to {m.high:.2f})" for m in (found.spearman, found.ssim)]
