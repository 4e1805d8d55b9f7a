"""What the version that a training starts from has learned from already: nothing to judge its heir on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.model.metadata import METADATA_FILE, read_metadata
from worker.train.dataset import DatasetError, LabelledDataset
from worker.train.held_out import in_digests
from worker.train.splits import Split


@dataclass(frozen=True)
class EarlierTraining:
    """`images`: those it learned from, as `pack_digests` packs them, None where its record does not say.
    `moved`: how many images they took from the validation part."""

    version: str
    images: str | None
    moved: int = 0

    @property
    def record(self) -> dict[str, Any]:
        """For the record of the new version, in JSON's types."""
        return {"version": self.version, "is_known": self.images is not None, "moved": self.moved}


def earlier_training(init_weights: str) -> EarlierTraining | None:
    """Of the model folder `init_weights`; None of anything else, which has seen none of our images."""
    folder = Path(init_weights)
    if not (folder / METADATA_FILE).is_file():
        return None
    metadata = read_metadata(folder)
    images = metadata.training.get("training_images")
    return EarlierTraining(metadata.version, images if isinstance(images, str) else None)


def without_learned(
    dataset: LabelledDataset, parts: Split, earlier: EarlierTraining
) -> tuple[Split, EarlierTraining]:
    """The split with validation images that `earlier` learned from, and others of their groups, in the
    training part; and `earlier` with their number. The same for the same dataset and split.

    Raises DatasetError where a class, or images with a finding or without it, would be missing.
    """
    known = in_digests(earlier.images, dataset.sha256) or [False] * len(dataset)
    learned = {group for group, was in zip(dataset.groups, known, strict=True) if was}
    kept = [index for index in parts.validation if dataset.groups[index] not in learned]
    moved = len(parts.validation) - len(kept)
    if not moved:
        return parts, earlier
    missing = dataset.one_sided(kept)
    if missing:
        raise DatasetError(
            f"--init-weights {earlier.version}: it learned from {moved} of the {len(parts.validation)} "
            f"validation images, or others of their patients, which leaves none of {', '.join(missing)} to "
            "judge on; add images that it has not seen, or start from imagenet"
        )
    training = sorted(set(range(len(dataset))) - set(kept))
    split = Split(training=tuple(training), validation=tuple(kept))
    return split, EarlierTraining(earlier.version, earlier.images, moved)
