"""`xraycam preview` and `evaluate`: look at a labelled folder, and measure a version on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producer.places import LocalPath
from worker.counted_words import counted


@click.command("preview")
@click.argument("dataset", type=LocalPath(path_type=Path))
@click.option(
    "--output",
    type=LocalPath(path_type=Path, dir_okay=False),
    default="preview.png",
    show_default=True,
    help="PNG file to write.",
)
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="Whose preprocessing and augmentation to show.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting of the recipe, such as augmentation.rotation=5; repeatable.",
)
@click.option("--count", type=click.IntRange(1, 20), default=6, show_default=True, help="Samples per class.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws other samples.")
@click.option(
    "--images", type=LocalPath(path_type=Path), help="The folder that the paths in a CSV file are from."
)
def preview_command(
    dataset: Path,
    output: Path,
    recipe: str,
    changes: tuple[str, ...],
    count: int,
    seed: int,
    images: Path | None,
) -> None:
    """Draw a grid of samples of DATASET as the network sees them, plain and augmented, under their class.

    Reads all images, and says which would be left out.

    \b
    Example:
      xraycam preview ./dataset --output preview.png
    """
    from producer.labels_argument import labels_at
    from producer.session import ensure_output_file
    from producer.training_request import recipe_from
    from worker.errors import XraycamError
    from worker.settings import load_settings
    from worker.tensorflow_import import import_tensorflow, quiet_tensorflow

    chosen = recipe_from(recipe, changes)
    labels, file = labels_at(dataset, images), ensure_output_file(output)
    if file.suffix.lower() != ".png":
        raise XraycamError(f"--output {output}: the picture is a PNG; end the name in .png")
    if labels[0].is_dir() and file.parent.resolve().is_relative_to(labels[0].resolve()):
        raise XraycamError(
            f"--output {output}: lies in {dataset}, where the picture would be taken for a radiograph; name "
            "a file elsewhere"
        )
    settings = load_settings()
    settings.apply_umask()
    with quiet_tensorflow(settings):
        from worker.images.reader import limits_of
        from worker.train.labels import LabelSource, left_out_lines, load_labels

        found = load_labels(
            LabelSource(*labels), min_per_class=1, limits=limits_of(settings), memory=0, samples=True
        )
        for line in (*left_out_lines(found.skipped), *found.passed_over):
            click.echo(line, err=True)
        import_tensorflow()
        from worker.train.preview import draw_preview, draw_samples

        draw_preview(found, chosen, draw_samples(found, count, seed), file)
        counts = ", ".join(f"{name}: {counted(number, 'image')}" for name, number in found.counts().items())
        click.echo(counts, err=True)
    click.echo(file)


if TYPE_CHECKING:
    from producer.tables import Table


@click.command("evaluate")
@click.argument("dataset", type=LocalPath(path_type=Path))
@click.option("--model", help="Model version; without it the current one.")
@click.option(
    "--output", type=LocalPath(path_type=Path, file_okay=False), help="Folder for figures and pictures."
)
@click.option(
    "--images", type=LocalPath(path_type=Path), help="The folder that the paths in a CSV file are from."
)
def evaluate_command(dataset: Path, model: str | None, output: Path | None, images: Path | None) -> None:
    """Measure a model version on DATASET, a folder with one sub-folder of images per class, or a CSV file.

    Sub-folders, or what the CSV file names, must be called as the model's classes or findings. Runs on this
    machine and changes nothing.

    \b
    Example:
      xraycam evaluate ./other-hospital --model shenzhen-3
    """
    import json

    from producer.labels_argument import labels_at
    from producer.session import open_session, output_dir
    from worker.model.doubts import doubts
    from worker.model.metadata import METRICS_FILE
    from worker.model.store import store_of
    from worker.settings import load_settings
    from worker.tensorflow_import import import_tensorflow, quiet_tensorflow

    with quiet_tensorflow(load_settings()):
        session = open_session()
        folder, root = labels_at(dataset, images)
        chosen = session.model(model)
        place = output or session.settings.home / "evaluations" / f"{chosen.version}-on-{folder.name}"
        with output_dir(place) as target:
            import_tensorflow()
            from worker.train.evaluation import evaluate_model

            evaluate_model(
                session.settings, chosen, store_of(session.settings), folder, target, session.tell, root
            )
    found = json.loads((target / METRICS_FILE).read_text(encoding="utf-8"))
    _table(found).print(session.out)
    for doubt in doubts(found["figures"], name_rare=False):
        session.out.print(f"warning: {doubt}", soft_wrap=True, markup=False)
    session.out.print(f"all figures, and pictures: {target}", soft_wrap=True, markup=False)


def _table(found: dict[str, Any]) -> Table:
    from producer.tables import Column, Table
    from worker.interval_words import figure_with_interval, of_class

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    figures = found["figures"]
    if figures.get("output") == "sigmoid":
        return _findings_table(found["model"], figures)
    counts = ", ".join(f"{count} {name}" for name, count in figures["images"].items())
    columns, of = (Column("figure"), Column("value", right=True)), of_class(figures)
    table = Table(columns, title=f"model {found['model']} on {counts}")
    for name, key in (
        ("AUC (95% interval)", "auc"),
        (f"sensitivity{of} at 0.5", "sensitivity"),
        (f"specificity{of} at 0.5", "specificity"),
        ("accuracy", "accuracy"),
    ):
        table.add_row(name, figure_with_interval(figures, key))
    if figures["youden"] is not None:
        point = figures["youden"]
        table.add_row(
            f"sensitivity / specificity{of} at {point['threshold']:.2f} (Youden)",
            f"{number(point['sensitivity'])} / {number(point['specificity'])}",
        )
    table.add_row(f"specificity{of} at 90% sensitivity", number(figures["specificity_at_sensitivity_90"]))
    table.add_row("Brier score", number(figures["brier"]))
    table.add_row("Brier score, calibrated", number(figures["brier_with_temperature"]))
    table.add_row("calibration error, calibrated", number(figures["expected_calibration_error"]))
    for name, row in zip(figures["classes"], figures["confusion"], strict=True):
        predicted = ", ".join(
            f"{count} {other}" for other, count in zip(figures["classes"], row, strict=True)
        )
        table.add_row(f"{name} predicted as", predicted)
    return table


def _findings_table(model: str, figures: dict[str, Any]) -> Table:
    from producer.tables import Column, Table
    from worker.interval_words import figure_with_interval, with_interval

    brier, calibrated = (figure_with_interval(figures, key) for key in ("brier", "brier_with_temperature"))
    error = figure_with_interval(figures, "expected_calibration_error")
    columns = (
        Column("finding"),
        Column("with", 2, right=True),
        Column("without", 2, right=True),
        Column("not known", 3, right=True),
        Column("AUC", right=True),
        Column("sensitivity at 0.5", 1, right=True),
        Column("specificity at 0.5", 1, right=True),
    )
    table = Table(
        columns,
        title=f"model {model} on {figures['images_in_all']} images (95% intervals)\n"
        f"Brier score {brier}, calibrated {calibrated}, then with a calibration error of {error}",
    )
    for name, one in figures["by_class"].items():
        table.add_row(
            name,
            *(str(one[kind]) for kind in ("present", "absent", "unknown")),
            figure_with_interval(one, "auc"),
            with_interval(one["at_half"]["sensitivity"], one["sensitivity_interval"]),
            with_interval(one["at_half"]["specificity"], one["specificity_interval"]),
        )
    table.add_section()
    means = (
        figure_with_interval(figures, "auc"),
        figure_with_interval(figures, "sensitivity"),
        figure_with_interval(figures, "specificity"),
    )
    table.add_row("mean of those measured", "", "", "", *means)
    return table
