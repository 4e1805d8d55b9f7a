"""What the images of a version or a site say of its scores: operating points, and distributions."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Score = Annotated[float, Field(ge=0.0, le=100.0)]
Interval = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OperatingPoint(_Part):
    """A threshold, from which score on an image is referred, and what it gave on the images that it was
    chosen on. Intervals, 95%, see `worker.intervals`: of the threshold that of a quantile of the scores, of
    the others Wilson's, at the threshold as it is; that it was chosen on the same images is not in them."""

    name: str = Field(pattern=r"^(sensitivity|specificity)-[0-9]{1,3}(\.[0-9]+)?$")
    threshold: Score
    threshold_interval: tuple[Score, Score]
    sensitivity: Share
    sensitivity_interval: tuple[Share, Share]
    specificity: Share
    specificity_interval: tuple[Share, Share]
    positive_images: int = Field(ge=1)
    negative_images: int = Field(ge=1)


class Distribution(_Part):
    """How values of `images` images fall between `edges`, ascending: `shares` has one more than these.

    A value that equals an edge is above it.
    """

    edges: tuple[float, ...] = Field(min_length=1, max_length=100)
    shares: tuple[Share, ...]
    images: int = Field(ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Distribution:
        if len(self.shares) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges must ascend, and shares be one more")
        if abs(sum(self.shares) - 1.0) > 1e-6:
            raise ValueError("shares must add up to 1")
        return self


# The columns of `results` whose distribution is compared.
COMPARED = ("score", "brightness", "contrast")
