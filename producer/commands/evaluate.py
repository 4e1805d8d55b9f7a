"""`xraycam evaluate`: how good a version is on a labelled folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table


@click.command("evaluate")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--model", help="Model version; without it the current one.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for figures and pictures."
)
def command(dataset: Path, model: str | None, output: Path | None) -> None:
    """Measure a model version on DATASET, a folder with one sub-folder of images per class.

    The sub-folders must be called as the model's classes. Runs on this machine and changes nothing.

    \b
    Example:
      xraycam evaluate ./other-hospital --model shenzhen-3
    """
    import json

    from producer.places import output_folder
    from producer.session import open_session
    from producer.worker_program import run_worker_program
    from worker.errors import XraycamError
    from worker.model.description import METRICS_FILE

    session = open_session()
    folder = dataset.expanduser().absolute()
    if not folder.is_dir():
        raise XraycamError(f"there is no folder {dataset}; name one that has a sub-folder for each class")
    chosen = session.model(model)
    target = output_folder(
        output or session.settings.home / "evaluations" / f"{chosen.version}-on-{folder.name}"
    )
    status = run_worker_program(
        session.settings, "worker.programs.evaluate_model", [folder, target, "--model", chosen.version]
    )
    if status:
        raise SystemExit(status)
    found = json.loads((target / METRICS_FILE).read_text(encoding="utf-8"))
    session.out.print(_table(found))
    session.out.print(f"all figures, and pictures: {target}", soft_wrap=True, markup=False)


def _table(found: dict[str, Any]) -> Table:
    from rich.table import Table

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    figures = found["figures"]
    counts = ", ".join(f"{count} {name}" for name, count in figures["images"].items())
    table = Table(title=f"model {found['model']} on {counts}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    low, high = figures["auc_interval"]
    table.add_row("AUC (95% interval)", f"{number(figures['auc'])} ({number(low)} to {number(high)})")
    table.add_row("sensitivity at 0.5", number(figures["sensitivity"]))
    table.add_row("specificity at 0.5", number(figures["specificity"]))
    if figures["youden"] is not None:
        point = figures["youden"]
        table.add_row(
            f"sensitivity / specificity at {point['threshold']:.2f} (Youden)",
            f"{number(point['sensitivity'])} / {number(point['specificity'])}",
        )
    table.add_row("specificity at 90% sensitivity", number(figures["specificity_at_sensitivity_90"]))
    table.add_row("accuracy", number(figures["accuracy"]))
    table.add_row("Brier score", number(figures["brier"]))
    table.add_row("calibration error", number(figures["calibration_error"]))
    for name, row in zip(figures["classes"], figures["confusion"], strict=True):
        predicted = ", ".join(
            f"{count} {other}" for other, count in zip(figures["classes"], row, strict=True)
        )
        table.add_row(f"{name} predicted as", predicted)
    return table
