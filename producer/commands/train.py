"""`xraycam train` and `trainings`: make a new version from a labelled folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producer.places import LocalPath
from worker.counted_words import counted
from worker.model.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from db.trainings import Training
    from producer.session import Session


@click.command("train")
@click.argument("dataset", type=LocalPath(path_type=Path), required=False)
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="How to train: default, or a JSON file; reference and reference-tuned are for comparison only.",
)
@click.option(
    "--architecture",
    type=click.Choice(list(ARCHITECTURES)),
    help="The network; without it that of the recipe, mobilenetv2.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting of the recipe, such as stages.0.epochs=3; repeatable.",
)
@click.option(
    "--init-weights",
    metavar="imagenet|FILE|VERSION",
    help="Weights to begin with; without it those of XRAYCAM_INIT_WEIGHTS, else ImageNet's.",
)
@click.option(
    "--group-by",
    metavar="patient|none|REGEX",
    help="All of one patient's images stay on one side: 'patient' by the ID of DICOM files, which is what "
    "is done without it, 'none' not at all, else a pattern that finds the patient in a file's name.",
)
@click.option(
    "--images", type=LocalPath(path_type=Path), help="The folder that the paths in a CSV file are from."
)
@click.option(
    "--findings",
    is_flag=True,
    help="Sub-folders are findings, which an image may have several of: it then lies in each.",
)
@click.option(
    "--test", type=LocalPath(path_type=Path), help="Another labelled folder or CSV file to measure on."
)
@click.option(
    "--promote",
    type=click.Choice(["if-better", "always", "never"]),
    default="if-better",
    show_default=True,
    help="When the new version becomes current.",
)
@click.option(
    "--source",
    multiple=True,
    metavar="TEXT",
    help="Where the images are from, or whom to cite: a line for the model card; repeatable.",
)
@click.option(
    "--positive", metavar="CLASS", help="The class that is looked for: its probability is the score."
)
@click.option("--version", help="What to call the new version; without it DATASET-NUMBER.")
@click.option("--wait", is_flag=True, help="Show the training until it has ended.")
@click.option("--resume", type=int, metavar="ID", help="Continue a failed, cancelled or lost training.")
@click.option(
    "--gpus",
    default="all",
    show_default=True,
    help="GPUs to use where a trainer is started here: all, none, or numbers.",
)
def train_command(dataset: Path | None, resume: int | None, wait: bool, gpus: str, **given: Any) -> None:
    """Train on DATASET and publish the result.

    DATASET is a folder with one sub-folder of images per class, or a CSV file of labels: a column path, and a
    column class, a column findings with names separated by '|', or a column of 0 and 1 for each finding.

    Sent to the trainers ('xraycam worker --queues train'); prints the training's number. Without a broker
    configured, '--wait' starts on this machine what is needed. A part of the images is held out to measure
    on; a new version becomes current if its AUC there is not worse than that of the current one.

    \b
    Examples:
      xraycam train ./dataset --wait
      xraycam train ./findings.csv --images ./images --positive Nodule --wait
      xraycam train ./dataset --set stages.1.epochs=40 --init-weights shenzhen-3
      xraycam train ./dataset --architecture densenet121 --init-weights imagenet
      xraycam train --resume 7 --wait
    """
    from producer.local_run import train_locally
    from producer.session import open_session
    from worker.errors import XraycamError
    from worker.supervisor.devices import devices_for

    if (dataset is None) == (resume is None):
        raise click.UsageError("Give a DATASET, or --resume and the number of a training.")
    session = open_session()
    if session.settings.broker is None and not wait:
        raise XraycamError(
            "no broker is configured to send the training to: add --wait to train on this machine, or set "
            "XRAYCAM_BROKER_URL=redis://HOST:6379/0"
        )
    if session.settings.broker is not None:
        session.require_broker()
    else:
        devices_for(gpus)  # refused before a training is noted
    training = _create_or_resume(session, dataset, resume, given)
    if session.settings.broker is None:
        click.echo(f"training {training.id}: at most {counted(training.epochs, 'epoch')}, local", err=True)
        raise SystemExit(train_locally(session, training, gpus))
    _send(session, training)
    if wait:
        raise SystemExit(_watch(session, training))
    click.echo(training.id)


def _create_or_resume(
    session: Session, dataset: Path | None, resume: int | None, given: dict[str, Any]
) -> Training:
    from db.trainings import requeue_training
    from producer.training_request import TrainingRequest, check_version, request_training

    if dataset is not None:
        return request_training(
            session.ledger, session.settings, TrainingRequest(dataset, **given), session.tell
        )
    assert resume is not None  # one of the two is given
    context = click.get_current_context()
    unused = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in given
        and parameter.name != "version"
        and context.get_parameter_source(parameter.name).name == "COMMANDLINE"  # type: ignore[union-attr]  # has one
    ]
    if unused:
        raise click.UsageError(
            f"{', '.join(unused)}: a resumed training keeps the options it was requested with."
        )
    if given["version"] is not None:
        check_version(session.ledger, session.settings, given["version"])
    return session.ledger.write(requeue_training, resume, given["version"])


def _send(session: Session, training: Training) -> None:
    from kombu.exceptions import OperationalError

    from producer.local_run import cancelled_on_error
    from worker.queue.broker import broker_error
    from worker.queue.celery_app import create_celery_app
    from worker.queue.messages import send_training

    assert session.settings.broker is not None  # the caller looked
    try:
        with cancelled_on_error(session.ledger, training):
            send_training(create_celery_app(session.settings), training)
    except (OperationalError, OSError) as error:
        raise broker_error(session.settings.broker, error) from error


def _watch(session: Session, training: Training) -> int:
    from producer.training_progress import TrainingDisplay, report_training, wait_for_training

    try:
        with TrainingDisplay(session.err, session.ledger, training.id) as display:
            return report_training(session, wait_for_training(display))
    except KeyboardInterrupt:
        session.err.print(
            f"training {training.id} continues; 'xraycam watch --training {training.id}' shows it, "
            f"'xraycam cancel --training {training.id}' stops it",
            soft_wrap=True,
        )
        raise


@click.command("trainings")
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=20, show_default=True, help="How many to list."
)
def trainings_command(limit: int) -> None:
    """List the trainings, newest first.

    \b
    Example:
      xraycam trainings --limit 5
    """
    from db.trainings import list_trainings
    from producer.session import open_session
    from producer.tables import Column, Table

    session = open_session()
    columns = (
        Column("training", right=True),
        Column("dataset", 1, breaks=True),
        Column("recipe", 4, breaks=True),
        Column("state"),
        Column("epochs", 2, right=True),
        Column("AUC", 1, right=True),
        Column("model", breaks=True),
        Column("result", 3, least=24, breaks=True),
        Column("requested (UTC)", 4),
    )
    table = Table(columns)
    for training in session.ledger.query(list_trainings, limit):
        table.add_row(
            str(training.id),
            training.dataset,
            training.recipe.get("name", ""),
            training.state,
            f"{training.epoch}/{training.epochs}",
            "" if training.val_auc is None else f"{training.val_auc:.3f}",
            training.version or "",
            training.error or training.promotion_reason or "",
            f"{training.created_at:%Y-%m-%d %H:%M}",
        )
    table.print(session.out)
