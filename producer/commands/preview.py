"""`xraycam preview`: the picture one looks at before training."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("preview")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
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
def command(
    dataset: Path, output: Path, recipe: str, changes: tuple[str, ...], count: int, seed: int
) -> None:
    """Draw a grid of samples of DATASET as the network sees them, plain and augmented, under their class.

    Reads all images, and says which would be left out.

    \b
    Example:
      xraycam preview ./dataset --output preview.png
    """
    from producer.places import output_file
    from producer.recipe_options import recipe_from
    from producer.worker_program import run_worker_program
    from worker.errors import XraycamError
    from worker.settings import load_settings

    chosen = recipe_from(recipe, changes)
    folder, file = dataset.expanduser().absolute(), output_file(output)
    if not folder.is_dir():
        raise XraycamError(f"there is no folder {dataset}; name one that has a sub-folder for each class")
    if file.suffix.lower() != ".png":
        raise XraycamError(f"--output {output}: the picture is a PNG; end the name in .png")
    status = run_worker_program(
        load_settings(),
        "worker.programs.preview_dataset",
        [folder, file, "--count", str(count), "--seed", str(seed)],
        text=chosen.model_dump_json(),
    )
    if status:
        raise SystemExit(status)
    click.echo(file)
