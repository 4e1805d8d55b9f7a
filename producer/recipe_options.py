"""A recipe by name or from a file, with single numbers changed on the command line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from worker.train.recipe import RECIPES, Recipe, RecipeError, recipe_named


def recipe_from(given: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe called `given`, or that of the JSON file `given`, changed by such as `stages.0.epochs=3`.

    A changed recipe is no longer called as before. Raises RecipeError naming what does not fit.
    """
    base = recipe_named(given).model_dump(mode="json") if given in RECIPES else _from_file(given)
    for change in changes:
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
