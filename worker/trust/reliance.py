"""Whether predictions rest on places where no lung is. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

# Of the advance of the predicted class, lost by hiding a corner, which is a sixteenth of the picture, or
# the border.
MUCH = 0.5
# What fewer images than this do together says nothing of a model.
FEWEST = 8


def _square(top: bool, left: bool) -> Callable[[int], Any]:
    def place(side: int) -> Any:
        mask = np.zeros((side, side), bool)
        quarter = side // 4
        rows = slice(quarter) if top else slice(-quarter, None)
        mask[rows, slice(quarter) if left else slice(-quarter, None)] = True
        return mask

    return place


def _middle(side: int) -> Any:
    mask = np.zeros((side, side), bool)
    mask[side // 4 : -(side // 4), side // 4 : -(side // 4)] = True
    return mask


def _border(side: int) -> Any:
    mask = np.ones((side, side), bool)
    frame = side // 10
    mask[frame:-frame, frame:-frame] = False
    return mask


# Which pixels of a picture of some side each place covers. Corners are squares of a quarter of the side.
PLACES: dict[str, Callable[[int], Any]] = {
    "top left corner": _square(True, True),
    "top right corner": _square(True, False),
    "bottom left corner": _square(False, True),
    "bottom right corner": _square(False, False),
    "border": _border,
    "middle": _middle,
}


class Hidden(BaseModel):
    """What hiding one place does. `lost`: share of the mean advance of the predicted class, its score minus
    the highest other one, that is gone. `changed`: share of images then predicted as another class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lost: float
    changed: float


class Reliance(BaseModel):
    """Of the images predicted as `class_name`: what hiding each place does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_name: str
    images: int
    hidden: dict[str, Hidden]

    @property
    def warnings(self) -> list[str]:
        """A sentence for each place outside the middle that much rests on; none from too few images."""
        if self.images < FEWEST:
            return []
        return [
            f"warning: the model looks at the {place}: hiding it takes {found.lost:.0%} of what "
            f"{self.class_name} is ahead by, and {found.changed:.0%} of {self.images} images are then "
            f"predicted as another class (hiding the middle: {self.hidden['middle'].lost:.0%} and "
            f"{self.hidden['middle'].changed:.0%}). Side markers and film edges are there, not lungs"
            for place, found in self.hidden.items()
            if place != "middle" and found.lost >= MUCH
        ]


def reliance(scores: Any, classes: Sequence[str]) -> tuple[Reliance, ...]:
    """From scores (N, 1 + places, K), the whole image first and then each of `PLACES` hidden; one entry for
    each class that is predicted of an image."""
    scores = np.asarray(scores, np.float64)
    predicted = scores[:, 0].argmax(axis=1)
    ahead = _ahead(scores, predicted)
    found = []
    for number, name in enumerate(classes):
        members = ahead[predicted == number]
        if len(members):
            whole = members[:, 0].mean()
            hidden = {
                place: Hidden(
                    lost=float(1 - members[:, row].mean() / whole) if whole > 0 else 0.0,
                    changed=float((members[:, row] < 0).mean()),
                )
                for row, place in enumerate(PLACES, 1)
            }
            found.append(Reliance(class_name=name, images=len(members), hidden=hidden))
    return tuple(found)


def _ahead(scores: Any, predicted: Any) -> Any:
    """Score of the class predicted of the whole image minus the highest other one: (N, 1 + places)."""
    is_other = np.arange(scores.shape[-1]) != predicted[:, np.newaxis]
    own = np.take_along_axis(scores, predicted[:, np.newaxis, np.newaxis], axis=2)[..., 0]
    return own - np.where(is_other[:, np.newaxis], scores, -np.inf).max(axis=-1)
