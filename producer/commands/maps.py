"""`xraycam layers`, `compare`, `sanity`: which maps to believe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.explain.names import AUTO, COLORMAPS, METHODS

if TYPE_CHECKING:
    from db.models import Model
    from producer.session import Session


@click.command("layers")
@click.option("--model", help="Model version; without it, the current one.")
@click.option("--all", "show_all", is_flag=True, help="Also those that suit class activation maps badly.")
@click.option(
    "--rank",
    "dataset",
    type=click.Path(path_type=Path),
    help="Measure which layer and method say best where the score comes from, on a folder of images.",
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="With --rank: marked areas, as a folder of masks named as the images or as a JSON file.",
)
@click.option(
    "--images", type=click.IntRange(8), default=64, show_default=True, help="With --rank: so many images."
)
@click.option("--layer", "layers", multiple=True, help="With --rank: this layer; repeatable.")
@click.option(
    "--method", "methods", multiple=True, type=click.Choice(METHODS),
    help="With --rank: this method; repeatable.",
)  # fmt: skip
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --rank: folder for figures and picture.",
)
def layers_command(
    model: str | None,
    show_all: bool,
    dataset: Path | None,
    masks: Path | None,
    images: int,
    layers: tuple[str, ...],
    methods: tuple[str, ...],
    output: Path | None,
) -> None:
    """List the model's layers from input to output, marking those that suit Grad-CAM (*).

    Early layers give fine maps of edges and textures, late ones coarse maps of what the score rests on. With
    --rank DATASET pairs of layer and method are measured: whether the score falls when what a map shows is
    taken away, and with --masks whether the heat lies in the marked area. Maps that know nothing stand
    beside them. Runs on this machine and changes nothing.

    \b
    Examples:
      xraycam layers --all
      xraycam layers --rank ./dataset --masks ./dataset/lesions.json
    """
    from producer.session import open_session

    session = open_session()
    chosen = session.model(model)
    if dataset is None:
        if masks is not None or layers or methods or output is not None:
            raise click.UsageError("--masks, --layer, --method and --output belong to --rank DATASET.")
        _list(session, chosen, show_all)
    else:
        _rank(session, chosen, dataset, masks, images, layers, methods, output)


def _list(session: Session, chosen: Model, show_all: bool) -> None:
    from rich.table import Table

    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    description = read_metadata(store_of(session.settings).fetch(chosen.version, chosen.digest))
    side = description.preprocessing.size
    table = Table(title=f"model {chosen.version}, input {side} x {side}")
    for name in ("layer", "map", "channels", ""):
        table.add_column(name, justify="left" if name in ("layer", "") else "right")
    for layer in description.layers:
        if show_all or layer.is_cam_candidate:
            is_default = layer.name == description.default_layer
            marks = ("*" if layer.is_cam_candidate else "") + (
                f" default, with {description.default_method}" if is_default else ""
            )
            table.add_row(layer.name, f"{layer.height} x {layer.width}", str(layer.channels), marks)
    session.out.print(table)


def _rank(
    session: Session,
    chosen: Model,
    dataset: Path,
    masks: Path | None,
    images: int,
    layers: tuple[str, ...],
    methods: tuple[str, ...],
    output: Path | None,
) -> None:
    from producer.map_tables import ranking_lines, ranking_table
    from producer.session import ensure_output_dir
    from producer.worker_program import run_worker_program
    from worker.errors import XraycamError
    from worker.images.masks import load_masks
    from worker.map_evaluation.reports import RANKING_FILE, Ranking
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    description = read_metadata(store_of(session.settings).fetch(chosen.version, chosen.digest))
    for layer in layers:
        description.require_layer(layer)
    folder = dataset.expanduser().absolute()
    if not folder.is_dir():
        raise XraycamError(f"there is no folder {dataset}; name one with radiographs")
    target = ensure_output_dir(
        output or session.settings.home / "rankings" / f"{chosen.version}-on-{folder.name}"
    )
    arguments: list[str | Path] = [folder, target, "--model", chosen.version, "--images", str(images)]
    if masks is not None:
        areas = masks.expanduser().absolute()
        load_masks(areas)
        arguments += ["--masks", areas]
    arguments += [word for layer in layers for word in ("--layer", layer)]
    arguments += [word for method in methods for word in ("--method", method)]
    status = run_worker_program(session.settings, "worker.programs.rank_layers", arguments)
    if status:
        raise SystemExit(status)
    ranking = Ranking.model_validate_json((target / RANKING_FILE).read_text(encoding="utf-8"))
    session.out.print(ranking_table(ranking))
    for line in ranking_lines(ranking, description):
        session.out.print(line, soft_wrap=True, markup=False)
    session.out.print(f"all figures, and the picture: {target}", soft_wrap=True, markup=False)


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
def compare_command(
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
    from producer.session import ensure_output_dir, open_session
    from producer.worker_program import run_worker_program
    from worker.errors import XraycamError
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    session = open_session()
    chosen = session.model(model)
    description = read_metadata(store_of(session.settings).fetch(chosen.version, chosen.digest))
    for layer in layers:
        if layer != AUTO:
            description.require_layer(layer)
    if target != "predicted":
        description.require_class(target)
    place = source.expanduser().absolute()
    if not place.exists():
        raise XraycamError(f"there is no {source}; name a radiograph or a folder of them")
    folder = ensure_output_dir(output or session.settings.home / "comparisons")
    arguments: list[str | Path] = [folder, place, "--model", chosen.version, "--target", target]
    arguments += ["--colormap", colormap, "--opacity", str(opacity), "--limit", str(limit)]
    arguments += [word for layer in layers for word in ("--layer", layer)]
    arguments += [word for method in methods for word in ("--method", method)]
    status = run_worker_program(session.settings, "worker.programs.compare_maps", arguments)
    if status:
        raise SystemExit(status)
    click.echo(folder / f"{place.name}.png" if place.is_file() else folder)


@click.command("sanity")
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@click.option("--model", help="Model version; without it, the current one.")
@click.option("--layer", help="Layer; without it, the model's default.")
@click.option("--method", type=click.Choice(METHODS), help="Method; without it, the model's default.")
@click.option("--images", type=click.IntRange(2), default=32, show_default=True, help="So many images.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for figures and picture."
)
def sanity_command(
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
    from producer.map_tables import sanity_table
    from producer.session import ensure_output_dir, open_session
    from producer.worker_program import run_worker_program
    from worker.errors import XraycamError
    from worker.map_evaluation.reports import SANITY_FILE, Sanity
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    session = open_session()
    chosen = session.model(model)
    description = read_metadata(store_of(session.settings).fetch(chosen.version, chosen.digest))
    if layer is not None:
        description.require_layer(layer)
    folder = Path(session.run(None).root) if dataset is None else dataset.expanduser().absolute()
    if not folder.is_dir():
        raise XraycamError(f"there is no folder {folder}; name one with radiographs")
    target = ensure_output_dir(output or session.settings.home / "sanity" / chosen.version)
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
