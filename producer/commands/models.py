"""`xraycam models`: the versions, and which is current."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from producer.places import LocalPath

if TYPE_CHECKING:
    from db.models import Model
    from producer.session import Session
    from worker.model.store import ModelStore


@click.group("models", invoke_without_command=True)
@click.pass_context
def models_command(ctx: click.Context) -> None:
    """List the model versions with their figures, newest first; * marks the current one.

    \b
    Examples:
      xraycam models
      xraycam models show starter-2
      xraycam models promote shenzhen-4
      xraycam models rollback
      xraycam models delete shenzhen-3
    """
    if ctx.invoked_subcommand is None:
        _list()


@models_command.command("show")
@click.argument("version")
def show(version: str) -> None:
    """Print all that is known of VERSION: what it was trained on, how, and its figures."""
    import json

    from db.models import get_model
    from producer.session import open_session
    from worker.model.metadata import CARD_FILE, read_metadata
    from worker.model.store import store_of

    session = open_session()
    model = session.ledger.query(get_model, version)
    folder = store_of(session.settings).fetch(model.version, model.digest)
    metadata = read_metadata(folder)
    ours = set() if metadata.network is None else {"alpha", "head"}  # of networks that are built here
    shown = metadata.model_dump(mode="json", exclude={"layers", *ours})
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    card = folder / CARD_FILE
    if card.exists():
        click.echo(f"\n{card.read_text(encoding='utf-8')}")


@models_command.command("promote")
@click.argument("version")
def promote(version: str) -> None:
    """Make VERSION current: runs that pin no model use it from their next chunk."""
    from db.models import current_model, get_model, promote_model
    from producer.session import open_session
    from worker.model.store import store_of
    from worker.queue.reload import broadcast_reload

    session = open_session()
    model = session.ledger.query(get_model, version)
    store_of(session.settings).fetch(model.version, model.digest)  # refuses a damaged one
    before = session.ledger.query(current_model)
    session.ledger.write(promote_model, version)
    broadcast_reload(session.settings)
    click.echo(f"current is {version}")
    _say_other_scores(session, before, version)
    _say_uncalibrated_sites(session, version)


@models_command.command("rollback")
def rollback() -> None:
    """Make the version current that was so before this one."""
    from db.models import get_model, last_two_promoted, rollback_model
    from producer.session import open_session
    from worker.model.store import store_of
    from worker.queue.reload import broadcast_reload

    session = open_session()
    model = session.ledger.query(get_model, session.ledger.query(last_two_promoted)[1])
    store_of(session.settings).fetch(model.version, model.digest)  # refuses a damaged one
    before, current = session.ledger.write(rollback_model)
    broadcast_reload(session.settings)
    click.echo(f"current is {current}, no longer {before}")
    _say_other_scores(session, session.ledger.query(get_model, before), current)
    _say_uncalibrated_sites(session, current)


@models_command.command("import")
@click.argument("path", metavar="PATH", type=LocalPath(path_type=Path))
@click.option(
    "--classes", help="For a Keras file: what its outputs stand for, in order: Normal,Tuberculosis."
)
@click.option("--positive", help="For a Keras file: the class that scores are of.")
@click.option(
    "--preprocessing",
    help="For a Keras file: scale=0-1, -1-1, 0-255, imagenet or imagenet-bgr, and size=SIDE, margin=SHARE.",
)
@click.option(
    "--output",
    type=click.Choice(["softmax", "sigmoid"]),
    help="For a Keras file whose last layer has no activation.",
)
@click.option(
    "--findings/--exclusive",
    default=None,
    help="For a Keras file with a sigmoid for each class: whether an image may have several of them. Without "
    "it: not where one is called Normal or alike.",
)
@click.option("--version", help="For a Keras file: the name of the version; without it, the file's.")
@click.option("--promote", is_flag=True, help="Make it current, too.")
def import_(
    path: Path,
    classes: str | None,
    positive: str | None,
    preprocessing: str | None,
    output: Literal["softmax", "sigmoid"] | None,
    findings: bool | None,
    version: str | None,
    promote: bool,
) -> None:
    """Copy a model folder (model.json and weights) into the store, or make a model of a Keras file.

    \b
    Examples:
      xraycam models import exported/shenzhen-4
      xraycam models import mine.keras --classes Normal,Tuberculosis --preprocessing scale=0-1
    """
    import tempfile

    from worker.errors import ModelError
    from worker.model.metadata import METADATA_FILE

    options = (classes, positive, preprocessing, output, version, None if findings is None else "said")
    if path.is_dir() and ((path / METADATA_FILE).exists() or not any(options)):
        if any(options):
            raise ModelError(f"{path} is a model folder, which says all of itself; give --promote at most")
        _register(path, f"imported from {path.absolute()}", promote=promote)
        return
    if not path.exists():
        raise ModelError(f"{path} does not exist")
    with tempfile.TemporaryDirectory(prefix="xraycam-import-") as place:
        folder = Path(place) / "model"
        _import_keras(path, folder, classes, positive, preprocessing, output, findings, version)
        _register(folder, f"imported from {path.absolute()}", promote=promote)


def _import_keras(
    path: Path,
    folder: Path,
    classes: str | None,
    positive: str | None,
    preprocessing: str | None,
    output: Literal["softmax", "sigmoid"] | None,
    findings: bool | None,
    version: str | None,
) -> None:
    import re

    from worker.errors import ModelError
    from worker.keras_import.preprocessing import preprocessing_from
    from worker.settings import load_settings
    from worker.tensorflow_import import import_tensorflow, quiet_tensorflow

    names = [name.strip() for name in (classes or "").split(",") if name.strip()]
    if len(names) < 2:
        raise ModelError(
            "the file does not say what its outputs stand for: give --classes, in the order of the outputs, "
            "such as --classes Normal,Tuberculosis"
        )
    fields = preprocessing_from(preprocessing)
    name = version or re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:64]
    with quiet_tensorflow(load_settings()):
        import_tensorflow()
        from worker.model.importing import import_keras

        made = import_keras(
            path,
            folder,
            version=name,
            classes=names,
            preprocessing=fields,
            positive=positive,
            output=output,
            findings=findings,
        )
    half = made.training["imported"].get("half_precision")
    if half is not None:
        click.echo(
            f"the model computes in {half}, here it does in single precision: its probabilities will "
            "differ from those of Keras by the error of the former; compare some, see docs/own-models.md",
            err=True,
        )
    if made.output == "sigmoid" and findings is None:
        taken, other = (
            ("findings, of which an image may have several", "exclusive")
            if made.has_findings
            else ("classes of which an image has one, the most probable", "findings")
        )
        click.echo(f"{', '.join(names)} are taken as {taken}; if not, import with --{other}", err=True)


def _register(folder: Path, source: str, *, promote: bool) -> None:
    from db.model_names import refuse_name_of_another
    from db.models import add_model, current_model, get_model, promote_model
    from producer.session import open_session
    from worker.errors import ModelError
    from worker.model.metadata import check_folder, digest_of
    from worker.model.store import store_of
    from worker.queue.reload import broadcast_reload

    session = open_session()
    description, digest = check_folder(folder), digest_of(folder)
    with session.ledger.read() as connection:  # before the store has it
        refuse_name_of_another(connection, description.version, digest)
    version = store_of(session.settings).publish(folder)
    session.ledger.write(
        add_model,
        version=version,
        digest=digest,
        classes=description.classes,
        source=source,
        metrics=description.training.get("validation", {}),
        created_at=description.created_at,
    )
    if session.ledger.query(get_model, version).digest != digest:
        raise ModelError(f"another model {version} is registered already; give this one another version")
    before = session.ledger.query(current_model)
    if promote:
        session.ledger.write(promote_model, version)
        broadcast_reload(session.settings)
    click.echo(f"imported {version}" + (", now current" if promote else ""))
    if promote:
        _say_other_scores(session, before, version)
        _say_uncalibrated_sites(session, version)


@models_command.command("delete")
@click.argument("version")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(version: str, yes: bool) -> None:
    """Delete VERSION from the ledger and the model store, with its thresholds; results made by it stay.

    Refused for the current version, and for one that an unfinished run or training needs. As long as a run
    or a training bears its name, no other model can have it.
    """
    from producer.deletion import delete_model_of
    from producer.session import open_session

    delete_model_of(open_session(), version, yes=yes)


@models_command.command("export")
@click.argument("version")
@click.argument("folder", type=LocalPath(path_type=Path))
def export(version: str, folder: Path) -> None:
    """Copy VERSION to FOLDER/VERSION, for another installation to import."""
    import shutil

    from db.models import get_model
    from producer.session import ensure_output_dir, open_session
    from worker.errors import ModelError
    from worker.model.store import store_of

    session = open_session()
    model = session.ledger.query(get_model, version)
    target = ensure_output_dir(folder) / version
    if target.exists():
        raise ModelError(f"{target} exists already; name another folder")
    shutil.copytree(store_of(session.settings).fetch(model.version, model.digest), target)
    click.echo(target)


def _say_uncalibrated_sites(session: Session, version: str) -> None:
    """Thresholds of other versions do not hold for this one: say which sites have none."""
    from db.operating_points import sites_without

    sites = session.ledger.query(sites_without, version)
    if sites:
        session.tell(
            f"no threshold for {version} at {', '.join(sites)}: runs with --site are refused until "
            f"'xraycam calibrate DATASET --model {version} --site SITE' makes one; those of other versions "
            "are not applied"
        )


def _say_other_scores(session: Session, before: Model | None, version: str) -> None:
    """Say where runs from now on have no scores of the class that they had."""
    from db.models import get_model
    from worker.errors import XraycamError
    from worker.model.metadata import read_metadata
    from worker.model.score_change import score_change
    from worker.model.store import store_of

    if before is None or before.version == version:
        return
    store, after = store_of(session.settings), session.ledger.query(get_model, version)
    try:
        was, now = (read_metadata(store.fetch(one.version, one.digest)) for one in (before, after))
    except XraycamError:  # the version before may be damaged, which is a reason to leave it
        return
    if (lost := score_change(was, now)) is not None:
        session.tell(lost)


def _list() -> None:
    from db.models import current_model, list_models
    from producer.session import open_session
    from producer.tables import Column, Table
    from worker.interval_words import leading_of
    from worker.model.store import ensure_current_model, store_of

    session = open_session()
    store = store_of(session.settings)
    ensure_current_model(session.ledger, store)
    current = session.ledger.query(current_model)
    columns = (
        Column(""),
        Column("version", breaks=True),
        Column("created (UTC)", 3),
        Column("classes", 2, breaks=True),
        Column("source", 5, breaks=True),
        Column("size", 4, right=True),
        Column("AUC", right=True),
        Column("sensitivity", 1, right=True),
        Column("specificity", 1, right=True),
        Column("of class", 1, breaks=True),
    )
    table = Table(columns)
    for model in session.ledger.query(list_models):
        figures = [model.metrics.get(name) for name in ("auc", "sensitivity", "specificity")]
        table.add_row(
            "*" if current is not None and model.version == current.version else "",
            model.version,
            f"{model.created_at:%Y-%m-%d %H:%M}",
            ", ".join(model.classes),
            model.source,
            _size(store, model.version),
            *("" if figure is None else f"{figure:.3f}" for figure in figures),
            "" if None in figures else leading_of(model.metrics, model.classes) or "mean",
        )
    table.print(session.out)


def _size(store: ModelStore, version: str) -> str:
    from worker.errors import ModelError

    try:
        return f"{store.size(version) / 1e6:.1f} MB"
    except ModelError:
        return "missing"
