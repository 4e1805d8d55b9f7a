"""`xraycam layers`, `compare`, `sanity`: which maps to believe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from producer.overlay_side_argument import OverlaySide
from producer.places import LocalPath
from worker.counted_words import counted
from worker.explain.names import AUTO, COLORMAPS, METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.models import Model
    from producer.session import Session
    from worker.model.metadata import ModelMetadata

# Of fewer images neither a ranking nor the randomisation test says anything.
LEAST_IMAGES = 8


@click.command("layers")
@click.option("--model", help="Model version; default: the current one.")
@click.option("--all", "show_all", is_flag=True, help="Also layers not recommended for CAM.")
@click.option(
    "--rank",
    "dataset",
    type=LocalPath(path_type=Path),
    help="Measure which layer and method say best where the score comes from, on a folder of images.",
)
@click.option(
    "--masks",
    type=LocalPath(path_type=Path),
    help="With --rank: marked areas, as a folder of masks named as the images or as a JSON file.",
)
@click.option(
    "--images",
    type=click.IntRange(LEAST_IMAGES),
    default=64,
    show_default=True,
    help="With --rank: number of images.",
)
@click.option("--layer", "layers", multiple=True, help="With --rank: this layer; repeatable.")
@click.option(
    "--method", "methods", multiple=True, type=click.Choice(METHODS),
    help="With --rank: this method; repeatable.",
)  # fmt: skip
@click.option(
    "--output",
    type=LocalPath(path_type=Path, file_okay=False),
    help="With --rank: folder for metrics and plot.",
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
    taken away, and with --masks whether the heat lies in the marked area. Baseline maps stand
    beside them. Runs on this machine and changes nothing.

    \b
    Examples:
      xraycam layers --all
      xraycam layers --rank ./dataset --masks ./dataset/lesions.json
    """
    from producer.session import open_session

    if dataset is not None:
        _rank(model, dataset, masks, images, layers, methods, output)
        return
    if masks is not None or layers or methods or output is not None:
        raise click.UsageError("--masks, --layer, --method and --output belong to --rank DATASET.")
    session = open_session()
    _list(session, session.model(model), show_all)


def _list(session: Session, chosen: Model, show_all: bool) -> None:
    from producer.tables import Column, Table
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    metadata = read_metadata(store_of(session.settings).fetch(chosen.version, chosen.digest))
    side = metadata.preprocessing.size
    columns = (Column("layer"), Column("map", right=True), Column("channels", 1, right=True), Column("note"))
    table = Table(columns, title=f"model {chosen.version}, input {side} x {side}")
    for layer in metadata.layers:
        if show_all or layer.is_cam_candidate:
            is_default = layer.name == metadata.default_layer
            marks = ("*" if layer.is_cam_candidate else "") + (
                f" default, with {metadata.default_method}" if is_default else ""
            )
            table.add_row(layer.name, f"{layer.height} x {layer.width}", str(layer.channels), marks)
    table.print(session.out)


def _rank(
    model: str | None,
    dataset: Path,
    masks: Path | None,
    images: int,
    layers: tuple[str, ...],
    methods: tuple[str, ...],
    output: Path | None,
) -> None:
    from producer.map_tables import ranking_lines, ranking_table
    from producer.session import open_session, output_dir
    from worker.errors import XraycamError
    from worker.map_evaluation.reports import RANKING_FILE
    from worker.settings import load_settings
    from worker.tensorflow_import import import_tensorflow, quiet_tensorflow

    with quiet_tensorflow(load_settings()):
        from worker.folder_walk import image_files
        from worker.images.masks import MaskMatches, load_masks
        from worker.images.reader import limits_of
        from worker.map_evaluation.sample import draw_sample

        session = open_session()
        files, metadata = _version(session, model, layers)
        folder = dataset.expanduser().absolute()
        if not folder.is_dir():
            raise XraycamError(f"there is no folder {dataset}; name one with radiographs")
        areas = None if masks is None else load_masks(masks.expanduser().absolute())
        place = output or session.settings.home / "rankings" / f"{metadata.version}-on-{folder.name}"
        with output_dir(place) as target:
            limits = limits_of(session.settings)
            session.tell(f"reading up to {counted(images, 'image')} of {folder}")
            sample = draw_sample(folder, metadata, images, limits=limits, on_message=session.tell)
            sample.require(LEAST_IMAGES, folder)
            marked = None
            if areas is not None:
                matches = MaskMatches(areas)
                for file in image_files(folder):
                    matches.add(file)
                for line in matches.lines():
                    session.tell(line)
                if not matches.matched:
                    raise XraycamError(
                        f"--masks {masks}: matches none of the {matches.images} images of {folder}; name "
                        "masks as the images, in the same sub-folders where names repeat"
                    )
                marked = draw_sample(
                    folder, metadata, images, marked=areas, only_marked=True, limits=limits,
                    on_message=session.tell,
                )  # fmt: skip
            import_tensorflow()
            from worker.map_evaluation.plots import plot_ranking
            from worker.map_evaluation.ranking import METHODS as DEFAULT_METHODS
            from worker.map_evaluation.ranking import rank
            from worker.model.network import load_model

            ranking = rank(
                *load_model(files),
                sample.pixels,
                layers=layers,
                methods=methods or DEFAULT_METHODS,
                marked=marked,
                progress=lambda done, of: session.tell(f"{done} of {of} images measured"),
            )
            text = ranking.model_dump_json(indent=1) + "\n"
            (target / RANKING_FILE).write_text(text, encoding="utf-8")
            plot_ranking(ranking, target / "ranking.png")
            ranking_table(ranking).print(session.out)
            for line in ranking_lines(ranking, metadata):
                session.out.print(line, soft_wrap=True, markup=False)
            session.out.print(f"all metrics, and the plot: {target}", soft_wrap=True, markup=False)


def _version(session: Session, name: str | None, layers: Sequence[str]) -> tuple[Path, ModelMetadata]:
    """A version, or the current one: its folder and description. Raises ModelError for a layer that it does
    not have, before its network is built."""
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    chosen = session.model(name)
    folder = store_of(session.settings).fetch(chosen.version, chosen.digest)
    metadata = read_metadata(folder)
    for layer in layers:
        if layer != AUTO:
            metadata.require_layer(layer)
    return folder, metadata


@click.command("compare")
@click.argument("source", metavar="IMAGE|FOLDER", type=LocalPath(path_type=Path))
@click.option(
    "--layer", "layers", multiple=True, help="Layer, a column; repeatable. Without it, the default."
)
@click.option(
    "--method", "methods", multiple=True, type=click.Choice((AUTO, *METHODS)),
    help="Method, a row; repeatable. Without it, the default.",
)  # fmt: skip
@click.option("--model", help="Model version; default: the current one.")
@click.option(
    "--target",
    default="predicted",
    show_default=True,
    help="Class to explain: 'predicted', 'all' for a row of each, or one by name.",
)
@click.option(
    "--colormap", type=click.Choice(COLORMAPS), default="inferno", show_default=True, help="Colormap."
)
@click.option(
    "--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Maximum overlay opacity."
)
@click.option(
    "--overlay-side",
    type=OverlaySide(),
    metavar="N|full",
    default=320,
    show_default=True,
    help="Longer side of each panel in pixels, at most; 'full': the image's own.",
)
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Maximum images of FOLDER."
)
@click.option("--output", type=LocalPath(path_type=Path, file_okay=False), help="Folder for the pictures.")
def compare_command(
    source: Path, layers: tuple[str, ...], methods: tuple[str, ...], model: str | None, target: str,
    colormap: str, opacity: float, overlay_side: int | str, limit: int, output: Path | None,
) -> None:  # fmt: skip
    """Draw where the score came from at several layers, by several methods: one picture for each image.

    Layers across, methods down, the original first; prediction and probability in the title.
    Local; records nothing.

    \b
    Example:
      xraycam compare chest.png --layer block_12_add --layer out_relu --method gradcam --method layercam
    """
    from producer.session import open_session, output_dir
    from worker.errors import XraycamError
    from worker.explain.names import ALL, PREDICTED
    from worker.settings import load_settings
    from worker.tensorflow_import import import_tensorflow, quiet_tensorflow

    with quiet_tensorflow(load_settings()):
        from worker.explain.options import ARGMAX_TARGET
        from worker.images.reader import limits_of

        session = open_session()
        files, metadata = _version(session, model, layers)
        index = ARGMAX_TARGET if target in (PREDICTED, ALL) else metadata.require_class(target)
        place = source.expanduser().absolute()
        if not place.exists():
            raise XraycamError(f"there is no {source}; name a radiograph or a folder of them")
        with output_dir(output or session.settings.home / "comparisons") as folder:
            import_tensorflow()
            from worker.explain.explainer import Explainer
            from worker.map_evaluation.compare import compare_maps
            from worker.model.network import load_model

            compare_maps(
                Explainer(*load_model(files), layers, methods, every_class=target == ALL),
                place,
                folder,
                target=index,
                colormap=colormap,
                opacity=opacity,
                overlay_side=overlay_side,
                limit=limit,
                limits=limits_of(session.settings),
                on_message=session.tell,
            )
    click.echo(folder / f"{place.name}.png" if place.is_file() else folder)


@click.command("sanity")
@click.argument("dataset", type=LocalPath(path_type=Path), required=False)
@click.option("--model", help="Model version; default: the current one.")
@click.option("--layer", help="Layer; without it, the model's default.")
@click.option("--method", type=click.Choice(METHODS), help="Method; without it, the model's default.")
@click.option(
    "--images", type=click.IntRange(LEAST_IMAGES), default=32, show_default=True, help="Number of images."
)
@click.option(
    "--output", type=LocalPath(path_type=Path, file_okay=False), help="Folder for metrics and plot."
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
    from producer.session import open_session, output_dir
    from worker.errors import XraycamError
    from worker.map_evaluation.reports import SANITY_FILE
    from worker.settings import load_settings
    from worker.tensorflow_import import import_tensorflow, quiet_tensorflow

    with quiet_tensorflow(load_settings()):
        from worker.images.reader import limits_of
        from worker.map_evaluation.sample import draw_sample
        from worker.remote.urls import refuse_url

        session = open_session()
        files, metadata = _version(session, model, () if layer is None else (layer,))
        root = session.run(None).root if dataset is None else str(dataset)
        refuse_url(root, "copy radiographs to a folder and name it")
        folder = Path(root).expanduser().absolute()
        if not folder.is_dir():
            raise XraycamError(f"there is no folder {folder}; name one with radiographs")
        with output_dir(output or session.settings.home / "sanity" / metadata.version) as target:
            limits = limits_of(session.settings)
            sample = draw_sample(folder, metadata, images, limits=limits, on_message=session.tell)
            sample.require(LEAST_IMAGES, folder)
            import_tensorflow()
            from worker.map_evaluation.plots import plot_sanity
            from worker.map_evaluation.sanity import check_sanity
            from worker.model.network import load_model

            found = check_sanity(
                *load_model(files),
                sample.pixels,
                layer=layer,
                method=method,
                progress=lambda done, of: session.tell(f"{done} of {of} stages randomised"),
            )
            (target / SANITY_FILE).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
            plot_sanity(found, target / "sanity.png")
            sanity_table(found).print(session.out)
            session.out.print(found.verdict, soft_wrap=True, markup=False)
            session.out.print(f"all metrics, and the plot: {target}", soft_wrap=True, markup=False)
