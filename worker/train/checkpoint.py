"""A training's state on disk after each epoch, so that one that was killed can go on. No pickle."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from worker.errors import XraycamError
from worker.train.learner import Arrays


class CheckpointError(XraycamError):
    """Raised when a checkpoint is damaged or belongs to another training."""


@dataclass
class Position:
    """Where a training stands: the next run, stage and epoch to do, and the best epoch of the run so far."""

    run: int = 0
    stage: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    since_best: int = 0


def save_checkpoint(file: Path, fingerprint: str, position: Position, arrays: dict[str, Arrays]) -> None:
    """Write `file` whole or not at all. `fingerprint` names the training: data, split, recipe, weights."""
    named = {
        f"{group}/{index}": array
        for group, group_arrays in arrays.items()
        for index, array in enumerate(group_arrays)
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    half_done = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        metadata = {"fingerprint": fingerprint, "position": json.dumps(asdict(position))}
        save_file(named, half_done, metadata=metadata)
        half_done.replace(file)
    finally:
        half_done.unlink(missing_ok=True)


def load_checkpoint(file: Path, fingerprint: str) -> tuple[Position, dict[str, Arrays]]:
    """The reverse of `save_checkpoint`. Raises CheckpointError if it is not of this training."""
    try:
        with safe_open(file, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            names = sorted(stored.keys(), key=lambda name: int(name.rsplit("/", 1)[1]))
            arrays: dict[str, Arrays] = {}
            for name in names:
                arrays.setdefault(name.rsplit("/", 1)[0], []).append(stored.get_tensor(name))
        position = Position(**json.loads(metadata["position"]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{file} is not a checkpoint that can be read ({error}); delete it to start anew"
        ) from error
    if metadata.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{file} belongs to a training with other data, recipe or first weights; "
            "give these again, or delete it to start anew"
        )
    return position, arrays
