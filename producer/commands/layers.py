"""`xraycam layers`: which layers can be explained, and which say best where the score comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from producer.commands._request import METHODS

if TYPE_CHECKING:
    from db.models import Model
    from producer.session import Session


@click.command("layers")
@click.option("--model", help="Model version; without it, the current one.")
@click.option("--all", "everything", is_flag=True, help="Also those that suit class activation maps badly.")
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
def command(
    model: str | None,
    everything: bool,
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
        _list(session, chosen, everything)
    else:
        _rank(session, chosen, dataset, masks, images, layers, methods, output)


def _list(session: Session, chosen: Model, everything: bool) -> None:
    from rich.table import Table

    from worker.model.description import read_description
    from worker.model.store import store_of

    description = read_description(store_of(session.settings).fetch(chosen.version, chosen.digest))
    side = description.preprocessing.size
    table = Table(title=f"model {chosen.version}, input {side} x {side}")
    for name in ("layer", "map", "channels", ""):
        table.add_column(name, justify="left" if name in ("layer", "") else "right")
    for layer in description.layers:
        if everything or layer.suits_cam:
            is_default = layer.name == description.default_layer
            marks = ("*" if layer.suits_cam else "") + (
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
    from producer.places import output_folder
    from producer.ranking_table import ranking_lines, ranking_table
    from producer.worker_program import run_worker_program
    from worker.errors import XraycamError
    from worker.explain.marked import marked_areas
    from worker.model.description import read_description
    from worker.model.store import store_of
    from worker.trust.ranking_figures import RANKING_FILE, Ranking

    description = read_description(store_of(session.settings).fetch(chosen.version, chosen.digest))
    for layer in layers:
        description.require_layer(layer)
    folder = dataset.expanduser().absolute()
    if not folder.is_dir():
        raise XraycamError(f"there is no folder {dataset}; name one with radiographs")
    target = output_folder(
        output or session.settings.home / "rankings" / f"{chosen.version}-on-{folder.name}"
    )
    arguments: list[str | Path] = [folder, target, "--model", chosen.version, "--images", str(images)]
    if masks is not None:
        areas = masks.expanduser().absolute()
        marked_areas(areas)
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
