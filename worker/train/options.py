"""What a training is asked for beside data and recipe, and what its version is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from db.errors import ModelNameTaken, ModelNotFound
from db.ledger import Ledger
from db.model_names import refuse_name_of_another
from db.models import get_model
from db.trainings import Training
from worker.errors import ModelError
from worker.model.store import ModelStore

VERSION_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Promote = Literal["if-better", "always", "never"]


def _one_line(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must be one line of text")
    return text.strip()


SourceLine = Annotated[str, Field(max_length=1000), AfterValidator(_one_line)]


class TrainOptions(BaseModel):
    """How a training's result is judged, named and published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group_by: str | None = Field(
        None, description="patient, none, or an expression that finds the patient in a file name"
    )
    test: str | None = Field(None, description="a second labelled folder or table to measure on, absolute")
    images: str | None = Field(None, description="the folder that a table's paths are from, absolute")
    findings: bool = Field(False, description="sub-folders are findings, which do not exclude each other")
    promote: Promote = Field("if-better", description="when the new version becomes current")
    tolerance: float = Field(0.01, ge=0.0, le=1.0, description="if-better: by how much less AUC it may have")
    source: tuple[SourceLine, ...] = Field((), description="where the images are from, whom to cite; by line")
    positive: str | None = Field(None, description="the class that a score is of")
    version: str | None = Field(None, pattern=VERSION_PATTERN, description="its name; None: made up")


def version_name(ledger: Ledger, store: ModelStore, training: Training, options: TrainOptions) -> str:
    """The name asked for, or one made of the dataset's and the training's number.

    Raises ModelError if the name asked for is taken.
    """
    if options.version is not None:
        if is_taken(ledger, store, options.version):
            raise ModelError(
                f"there is or was a model {options.version} already; 'xraycam train --resume {training.id} "
                "--version NAME' publishes this one under another name"
            )
        return options.version
    slug = (
        re.sub(r"[^a-z0-9]+", "-", Path(training.dataset).name.lower().removesuffix(".csv")).strip("-")[:40]
        or "model"
    )
    first = f"{slug}-{training.id}"
    names = (first, *(f"{first}-{number}" for number in range(2, 1000)))
    return next(name for name in names if not is_taken(ledger, store, name))


def is_taken(ledger: Ledger, store: ModelStore, version: str) -> bool:
    """Whether the ledger or the store has a model of this name, or something bears that of a deleted one."""
    try:
        ledger.query(get_model, version)
    except ModelNotFound:
        try:
            ledger.query(refuse_name_of_another, version)
        except ModelNameTaken:
            return True
        return store.exists(version)
    return True
