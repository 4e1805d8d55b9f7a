"""`xraycam compare`: layers and methods side by side."""

from __future__ import annotations

from pathlib import Path

import click

from producer.commands._request import AUTO, COLORMAPS, METHODS


@click.command("compare")
@click.argument("source", metavar="IMAGE|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--layer", "layers", multiple=True, help="Layer, a column; repeatable. Without it, the default."
)
@click.option(
    "--method", "methods", multiple=True, type=click.Choice((AUTO, *METHODS)),
    help="Method, a row; repeatable. Without it, the default.",
)  # fmt: skip
@click.option("--model", help="Model version; without it, the current one.")
@click.option(
    "--target", default="predicted", show_default=True, help="Class to explain: 'predicted', or one by name."
)
@click.option(
    "--colormap", type=click.Choice(COLORMAPS), default="inferno", show_default=True, help="Colours of heat."
)
@click.option(
    "--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of colour at most."
)
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many images of FOLDER."
)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the pictures.")
def command(
    source: Path, layers: tuple[str, ...], methods: tuple[str, ...], model: str | None, target: str,
    colormap: str, opacity: float, limit: int, output: Path | None,
) -> None:  # fmt: skip
    """Draw where the score came from at several layers, by several methods: one picture for each image.

    Layers across, methods down, the original first; prediction and probability in the title. Runs on this
    machine and notes nothing.

    \b
    Example:
      xraycam compare chest.png --layer block_12_add --layer out_relu --method gradcam --method layercam
    """
    from producer.places import output_folder
    from producer.session import open_session
    from producer.worker_program import run_worker_program
    from worker.errors import XraycamError
    from worker.model.description import read_description
    from worker.model.store import store_of

    session = open_session()
    chosen = session.model(model)
    description = read_description(store_of(session.settings).fetch(chosen.version, chosen.digest))
    for layer in layers:
        if layer != AUTO:
            description.require_layer(layer)
    if target != "predicted":
        description.require_class(target)
    place = source.expanduser().absolute()
    if not place.exists():
        raise XraycamError(f"there is no {source}; name a radiograph or a folder of them")
    folder = output_folder(output or session.settings.home / "comparisons")
    arguments: list[str | Path] = [folder, place, "--model", chosen.version, "--target", target]
    arguments += ["--colormap", colormap, "--opacity", str(opacity), "--limit", str(limit)]
    arguments += [word for layer in layers for word in ("--layer", layer)]
    arguments += [word for method in methods for word in ("--method", method)]
    status = run_worker_program(session.settings, "worker.programs.compare_maps", arguments)
    if status:
        raise SystemExit(status)
    click.echo(folder / f"{place.name}.png" if place.is_file() else folder)
