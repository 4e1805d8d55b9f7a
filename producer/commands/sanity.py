"""`xraycam sanity`: whether a model's maps depend on what it has learned."""

from __future__ import annotations

from pathlib import Path

import click

from producer.commands._request import METHODS


@click.command("sanity")
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@click.option("--model", help="Model version; without it, the current one.")
@click.option("--layer", help="Layer; without it, the model's default.")
@click.option("--method", type=click.Choice(METHODS), help="Method; without it, the model's default.")
@click.option("--images", type=click.IntRange(2), default=32, show_default=True, help="So many images.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for figures and picture."
)
def command(
    dataset: Path | None, model: str | None, layer: str | None, method: str | None, images: int,
    output: Path | None,
) -> None:  # fmt: skip
    """Randomise a copy of the model from its head down, and see whether its maps become other maps.

    Images are taken from DATASET; without it, from the folder of the latest run. Maps that stay as they were
    show the image rather than what the model has learned (Adebayo et al. 2018). Runs on this machine and
    changes nothing.

    \b
    Example:
      xraycam sanity ./xrays --model shenzhen-3
    """
    from producer.places import output_folder
    from producer.sanity_table import sanity_table
    from producer.session import open_session
    from producer.worker_program import run_worker_program
    from worker.errors import XraycamError
    from worker.model.description import read_description
    from worker.model.store import store_of
    from worker.trust.sanity_figures import SANITY_FILE, Sanity

    session = open_session()
    chosen = session.model(model)
    description = read_description(store_of(session.settings).fetch(chosen.version, chosen.digest))
    if layer is not None:
        description.require_layer(layer)
    folder = Path(session.run(None).root) if dataset is None else dataset.expanduser().absolute()
    if not folder.is_dir():
        raise XraycamError(f"there is no folder {folder}; name one with radiographs")
    target = output_folder(output or session.settings.home / "sanity" / chosen.version)
    arguments: list[str | Path] = [target, folder, "--model", chosen.version, "--images", str(images)]
    arguments += [] if layer is None else ["--layer", layer]
    arguments += [] if method is None else ["--method", method]
    status = run_worker_program(session.settings, "worker.programs.check_sanity", arguments)
    if status:
        raise SystemExit(status)
    found = Sanity.model_validate_json((target / SANITY_FILE).read_text(encoding="utf-8"))
    session.out.print(sanity_table(found))
    session.out.print(found.verdict, soft_wrap=True, markup=False)
    session.out.print(f"all figures, and the picture: {target}", soft_wrap=True, markup=False)
