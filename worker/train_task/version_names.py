"""What a new version of a model is called. Light: no TensorFlow here."""

from __future__ import annotations

import re
from pathlib import Path

from db.errors import UnknownModel
from db.ledger import Ledger
from db.models import get_model
from db.trainings import Training
from worker.errors import ModelError
from worker.model.store import ModelStore
from worker.train_task.train_options import TrainOptions


def version_name(ledger: Ledger, store: ModelStore, training: Training, options: TrainOptions) -> str:
    """The name asked for, or one made of the dataset's and the training's number.

    Raises ModelError if the name asked for is taken.
    """
    if options.version is not None:
        if is_taken(ledger, store, options.version):
            raise ModelError(
                f"there is a model {options.version} already; 'xraycam train --resume {training.id} "
                "--version NAME' publishes this one under another name"
            )
        return options.version
    slug = re.sub(r"[^a-z0-9]+", "-", Path(training.dataset).name.lower()).strip("-")[:40] or "model"
    first = f"{slug}-{training.id}"
    names = (first, *(f"{first}-{number}" for number in range(2, 1000)))
    return next(name for name in names if not is_taken(ledger, store, name))


def is_taken(ledger: Ledger, store: ModelStore, version: str) -> bool:
    """Whether the ledger or the store has a model of this name."""
    try:
        get_model(ledger, version)
    except UnknownModel:
        return store.holds(version)
    return True
