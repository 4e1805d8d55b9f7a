"""From what a person asks to be trained to a row in the ledger: checked as far as can be without training."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from db.errors import ModelNotFound
from db.ledger import Ledger
from db.models import get_model
from db.trainings import Training, add_training
from producer.label_request import LabelRequest, TrainingRefused, class_counts
from worker.model.metadata import METADATA_FILE
from worker.model.store import store_of
from worker.settings import Settings
from worker.train.options import TrainOptions, is_taken
from worker.train.recipe import RECIPES, Recipe, RecipeError, recipe_named


def recipe_from(given: str, changes: Sequence[str] = (), architecture: str | None = None) -> Recipe:
    """The recipe called `given`, or that of the JSON file `given`, for `architecture`, changed by such as
    `stages.0.epochs=3`.

    A changed recipe is no longer called as before. Raises RecipeError naming what does not fit.
    """
    base = recipe_named(given).model_dump(mode="json") if given in RECIPES else _from_file(given)
    if architecture is not None and architecture != base["architecture"]:
        if given not in RECIPES:
            raise RecipeError(
                f"--recipe {given} is for {base['architecture']}: a file says its architecture, scale and "
                f"layers itself; --architecture {architecture} goes with --recipe default"
            )
        base = recipe_named(given).of_architecture(architecture).model_dump(mode="json")
    for change in changes:
        if change.split("=")[0].strip() == "architecture":
            raise RecipeError(f"--set {change}: use --architecture, which sets its scale and layers as well")
        _apply(base, change)
    if changes and base["name"] in RECIPES:
        base["name"] = f"{base['name']}-changed"
    where = "".join(f"--set {change} " for change in changes).strip() or f"--recipe {given}"
    return _validated(base, where)


def _from_file(given: str) -> dict[str, Any]:
    file = Path(given).expanduser()
    if not file.is_file():
        if "/" in given or file.suffix:
            raise RecipeError(f"--recipe {given}: there is no such file; known by name: {', '.join(RECIPES)}")
        recipe_named(given)  # raises with the names it knows
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"--recipe {given}: not a JSON file that can be read: {error}") from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"--recipe {given}: must hold one JSON object, as under training.recipe in model.json"
        )
    # Whole, with the defaults of what the file leaves out, so that --set finds every name.
    return _validated(content, f"--recipe {given}").model_dump(mode="json")


def _apply(base: dict[str, Any], change: str) -> None:
    """Set the value at a dotted path, in place."""
    path, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change}: write KEY=VALUE, such as --set stages.0.epochs=3")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    place: Any = base
    *steps, last = path.split(".")
    for step in steps:
        place = place[_key(place, step, change)]
    place[_key(place, last, change)] = value


def _key(place: Any, step: str, change: str) -> str | int:
    if isinstance(place, list):
        if step.isdigit() and int(step) < len(place):
            return int(step)
        raise RecipeError(f"--set {change}: {step!r} is not one of 0 to {len(place) - 1}")
    names = list(place) if isinstance(place, dict) else []
    if step in names:
        return step
    near = difflib.get_close_matches(step, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none below it'}"
    raise RecipeError(f"--set {change}: a recipe has no {step!r} there; {hint}")


def _validated(content: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecipeError(f"{where}: {place}: {first['msg']}") from None


@dataclass(frozen=True)
class TrainingRequest:
    dataset: Path
    recipe: str = "default"
    architecture: str | None = None
    changes: Sequence[str] = ()
    init_weights: str | None = None
    group_by: str | None = None
    test: Path | None = None
    promote: str = "if-better"
    source: Sequence[str] = ()
    version: str | None = None
    positive: str | None = None
    images: Path | None = None
    findings: bool = False


def request_training(
    ledger: Ledger,
    settings: Settings,
    request: TrainingRequest,
    on_message: Callable[[str], object] = lambda _: None,
) -> Training:
    """Check everything that can be checked here, and record the training in the ledger; `on_message` is told
    what was chosen without being asked for.

    Raises XraycamError for what cannot be trained.
    """
    recipe = recipe_from(request.recipe, request.changes, request.architecture)
    if (request.init_weights or settings.init_weights) == "none":
        recipe = _from_random_weights(recipe, request, on_message)
    dataset = request.dataset.expanduser().absolute()
    options = _options(settings, request)
    images = None if options.images is None else Path(options.images)
    labels = LabelRequest(dataset, images, options.findings)
    counts = class_counts(labels, "DATASET")
    _refuse_small(dataset, counts, recipe)
    if options.test is not None:
        _check_test(Path(options.test), labels, counts)
    if options.positive is not None and options.positive not in counts:
        raise TrainingRefused(
            f"--positive {options.positive}: {dataset} has no such class; it has {', '.join(counts)}"
        )
    if options.version is not None:
        check_version(ledger, settings, options.version)
    init_weights = _init_weights(ledger, request.init_weights or settings.init_weights)
    return ledger.write(
        add_training,
        dataset=str(dataset),
        recipe=recipe.model_dump(mode="json"),
        init_weights=init_weights,
        options=options.model_dump(mode="json"),
        epochs=recipe.epochs,
    )


_OF_WHAT_LEARNS = re.compile(r"\s*(freeze_until|batch_norm|stages\.\d+\.head_only)\s*=")


def _from_random_weights(
    recipe: Recipe, request: TrainingRequest, on_message: Callable[[str], object]
) -> Recipe:
    """Everything learns, unless the recipe is a file, or what learns was `--set`: then that is said."""
    if recipe.learns_everything:
        return recipe
    if request.recipe in RECIPES and not any(_OF_WHAT_LEARNS.match(change) for change in request.changes):
        on_message("random weights: all layers learn, none is frozen")
        return recipe.from_random_weights()
    on_message(
        "warning: by this recipe part of the network stays random; to have all of it learn: "
        "--set freeze_until=null --set batch_norm=released"
    )
    return recipe


def check_version(ledger: Ledger, settings: Settings, version: str) -> None:
    """Raises TrainingRefused unless a new model can be called `version`."""
    try:
        TrainOptions(version=version)
    except ValidationError:
        raise TrainingRefused(
            f"--version {version}: use small letters, digits, '.', '_' and '-', 64 at most"
        ) from None
    if is_taken(ledger, store_of(settings), version):
        raise TrainingRefused(
            f"--version {version}: there is or was a model of this name already; choose another"
        )


def _refuse_small(folder: Path, counts: dict[str, int], recipe: Recipe) -> None:
    small = [f"{name} ({count})" for name, count in counts.items() if count < recipe.min_per_class]
    if small:
        raise TrainingRefused(
            f"{folder}: too few images in {', '.join(small)}; each class needs at least "
            f"{recipe.min_per_class} (--set min_per_class=...)"
        )


def _check_test(folder: Path, labels: LabelRequest, classes: dict[str, int]) -> None:
    given = replace(labels, source=folder)
    missing = [name for name, count in class_counts(given, "--test", list(classes)).items() if not count]
    if missing and not labels.has_findings:
        raise TrainingRefused(f"--test {folder}: has no images of {', '.join(missing)}; name folders alike")


def _options(settings: Settings, request: TrainingRequest) -> TrainOptions:
    try:
        TrainOptions(source=tuple(request.source))
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]["msg"]
        raise TrainingRefused(
            f"--source: {wrong}; give one citation, or one place that the images are from, and repeat the "
            "option for more"
        ) from None
    if request.group_by not in (None, "patient", "none"):
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
            "images": None if request.images is None else str(request.images.expanduser().absolute()),
            "findings": request.findings,
            "promote": request.promote,
            "source": tuple(request.source),
            "positive": request.positive,
            "tolerance": settings.promote_tolerance,
        }
    ).model_copy(update={"version": request.version})


def _init_weights(ledger: Ledger, given: str) -> str:
    if given in ("imagenet", "none"):
        return given
    path = Path(given).expanduser().absolute()
    if path.is_file() or (path / METADATA_FILE).is_file():
        return str(path)
    try:
        return ledger.query(get_model, given).version
    except ModelNotFound as error:
        raise TrainingRefused(
            f"--init-weights {given} (XRAYCAM_INIT_WEIGHTS): no such file, and {error}; or give imagenet"
        ) from None
