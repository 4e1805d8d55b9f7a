"""What hiding places of a picture does to a model's score, as data; read by commands that compute nothing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# Of the advance of the predicted class, lost by hiding a corner, which is a sixteenth of the picture, or
# the border.
LARGE_EFFECT = 0.5
# What fewer images than this do together says nothing of a model.
MIN_IMAGES = 8


class OcclusionEffect(BaseModel):
    """What hiding one place does. `lost`: share of the mean advance of the predicted class, its score minus
    the highest other one, that is gone. `changed`: share of images then predicted as another class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lost: float
    changed: float


class OcclusionReport(BaseModel):
    """Of the images predicted as `class_name`: what hiding each place does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_name: str
    images: int
    hidden: dict[str, OcclusionEffect]

    @property
    def warnings(self) -> list[str]:
        """A sentence for each place outside the middle that much rests on; none from too few images."""
        if self.images < MIN_IMAGES:
            return []
        return [
            f"warning: the model looks at the {place}: masking it cuts the {self.class_name} margin by "
            f"{found.lost:.0%}, and {round(found.changed * self.images)} of {self.images} images are then "
            f"predicted as another class (masking the middle: {self.hidden['middle'].lost:.0%} and "
            f"{round(self.hidden['middle'].changed * self.images)}). Side markers and film edges "
            "are there, not lungs"
            for place, found in self.hidden.items()
            if place != "middle" and found.lost >= LARGE_EFFECT
        ]
