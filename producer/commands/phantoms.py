"""`xraycam phantoms`: a folder of synthetic chest X-rays to try things out on."""

from __future__ import annotations

from pathlib import Path

import click

from producer.places import LocalPath


@click.command(
    "phantoms",
    epilog="Example:  xraycam phantoms xraycam-samples --count 24 && xraycam run xraycam-samples",
)
@click.argument("folder", type=LocalPath(path_type=Path))
@click.option(
    "--count", default=24, show_default=True, help="How many pictures; every second one has lesions."
)
@click.option("--seed", default=1, show_default=True, help="Equal seeds give equal pictures.")
@click.option("--size", default=512, show_default=True, help="Width and height in pixels.")
@click.option("--classes", is_flag=True, help="Sort into Normal/ and Tuberculosis/: a labelled dataset.")
@click.option(
    "--corner-marker",
    metavar="CLASS",
    help="Put a bright marker into a corner of all pictures of this class (Normal or Tuberculosis).",
)
def phantoms_command(
    folder: Path, count: int, seed: int, size: int, classes: bool, corner_marker: str | None
) -> None:
    """Draw synthetic chest X-rays with known lesions into FOLDER.

    No patient was X-rayed for them: they serve to try xraycam out, not to train for use. FOLDER must be
    new, empty, or hold phantoms, which are replaced. The outlines of the lesions are in lesions.json.
    """
    from producer.phantoms import make_phantoms

    make_phantoms(folder, count, seed=seed, size=size, classes=classes, corner_marker=corner_marker)
    click.echo(f"{count} synthetic X-rays in {folder}, lesions outlined in {folder / 'lesions.json'}")
