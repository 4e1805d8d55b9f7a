"""From what a person asks to be trained to a row in the ledger: checked as far as can be without training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from db.errors import UnknownModel
from db.ledger import Ledger
from db.models import get_model
from db.trainings import Training, add_training
from producer.recipe_options import recipe_from
from worker.errors import XraycamError
from worker.model.description import DESCRIPTION_FILE
from worker.model.store import store_of
from worker.settings import Settings
from worker.train.recipe import Recipe
from worker.train_task.train_options import TrainOptions
from worker.train_task.version_names import is_taken


class TrainingRefused(XraycamError):
    """Raised when what is asked for cannot be trained."""


@dataclass(frozen=True)
class TrainingRequest:
    dataset: Path
    recipe: str = "default"
    changes: Sequence[str] = ()
    start_from: str | None = None
    group_by: str | None = None
    test: Path | None = None
    promote: str = "if-better"
    version: str | None = None


def request_training(ledger: Ledger, settings: Settings, request: TrainingRequest) -> Training:
    """Check everything that can be checked here, and note the training in the ledger.

    Raises XraycamError for what cannot be trained.
    """
    recipe = recipe_from(request.recipe, request.changes)
    dataset = request.dataset.expanduser().absolute()
    counts = _class_counts(dataset, "DATASET")
    _refuse_small(dataset, counts, recipe)
    options = _options(settings, request)
    if options.test is not None:
        _check_test(Path(options.test), counts)
    if options.version is not None:
        check_version(ledger, settings, options.version)
    start_from = _start_from(ledger, request.start_from or settings.start_from)
    return add_training(
        ledger,
        dataset=str(dataset),
        recipe=recipe.model_dump(mode="json"),
        start_from=start_from,
        options=options.model_dump(mode="json"),
        epochs=recipe.epochs,
    )


def check_version(ledger: Ledger, settings: Settings, version: str) -> None:
    """Raises TrainingRefused unless a new model can be called `version`."""
    try:
        TrainOptions(version=version)
    except ValidationError:
        raise TrainingRefused(
            f"--version {version}: use small letters, digits, '.', '_' and '-', 64 at most"
        ) from None
    if is_taken(ledger, store_of(settings), version):
        raise TrainingRefused(f"--version {version}: there is a model of this name already; choose another")


def _class_counts(folder: Path, what: str) -> dict[str, int]:
    """Files by class. Whether they are images is found when they are read."""
    if not folder.is_dir():
        raise TrainingRefused(f"{what} {folder}: there is no such folder; it must have one for each class")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if len(classes) < 2:
        found = f"one sub-folder, {classes[0].name}" if classes else "no sub-folder"
        raise TrainingRefused(
            f"{what} {folder} has {found}; put the images of each class into a sub-folder of its own, two "
            "classes or more"
        )
    return {
        entry.name: sum(file.is_file() and file.name[0] != "." for file in entry.rglob("*"))
        for entry in classes
    }


def _refuse_small(folder: Path, counts: dict[str, int], recipe: Recipe) -> None:
    small = [f"{name} ({count})" for name, count in counts.items() if count < recipe.min_per_class]
    if small:
        raise TrainingRefused(
            f"{folder}: too few images in {', '.join(small)}; each class needs at least "
            f"{recipe.min_per_class} (--set min_per_class=...)"
        )


def _check_test(folder: Path, classes: dict[str, int]) -> None:
    missing = [name for name in classes if not _class_counts(folder, "--test").get(name)]
    if missing:
        raise TrainingRefused(f"--test {folder}: has no images of {', '.join(missing)}; name folders alike")


def _options(settings: Settings, request: TrainingRequest) -> TrainOptions:
    if request.group_by is not None:
        try:
            re.compile(request.group_by)
        except re.error as error:
            raise TrainingRefused(
                f"--group-by {request.group_by!r} is not a regular expression: {error}"
            ) from None
    return TrainOptions.model_validate(
        {
            "group_by": request.group_by,
            "test": None if request.test is None else str(request.test.expanduser().absolute()),
            "promote": request.promote,
            "tolerance": settings.promote_tolerance,
        }
    ).model_copy(update={"version": request.version})


def _start_from(ledger: Ledger, given: str) -> str:
    if given in ("imagenet", "none"):
        return given
    path = Path(given).expanduser().absolute()
    if path.is_file() or (path / DESCRIPTION_FILE).is_file():
        return str(path)
    try:
        return get_model(ledger, given).version
    except UnknownModel as error:
        raise TrainingRefused(
            f"--start-from {given} (XRAYCAM_START_FROM): no such file, and {error}; or give imagenet"
        ) from None
