"""What evaluations of maps found, as data: ranking of layers and methods, randomisation, occlusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from worker.explain.attribution import Mask, border, corner, middle
from worker.map_evaluation.curves import Faithfulness
from worker.map_evaluation.localisation import Localisation
from worker.map_evaluation.occlusion_report import OcclusionEffect, OcclusionReport
from worker.map_evaluation.similarity import Similarity

RANKING_FILE = "ranking.json"
BLANK_ALLOWED = 0.1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ranked(_Part):
    """Figures of one layer and method, or of a baseline (`method` empty). `resolution`: height and width of
    its map. `blank`: maps without any heat among those that faithfulness was measured on. `images`: on how
    many, None: on all of the ranking's."""

    layer: str
    method: str
    resolution: tuple[int, int]
    faithfulness: Faithfulness
    blank: int
    images: int | None = None
    localisation: Localisation | None = None

    @property
    def name(self) -> str:
        return f"{self.layer} {self.method}".strip()


class Ranking(_Part):
    """Pairs of layer and method, the most faithful first, and baseline maps, on the same images.

    The scores explained are those of the predicted classes; for localisation, of the class that the image's
    folder names, where it names one. `seconds`: what it took.
    """

    model: str
    images: int
    marked_images: int
    seconds: float
    pairs: tuple[Ranked, ...]
    baselines: tuple[Ranked, ...]

    @property
    def best(self) -> Ranked:
        """The most faithful pair that leaves no more than a tenth of the images without a map; without such
        a one, the most faithful."""
        return next((pair for pair in self.pairs if not self.is_blank_too_often(pair)), self.pairs[0])

    def is_blank_too_often(self, pair: Ranked) -> bool:
        return pair.blank > BLANK_ALLOWED * (pair.images or self.images)


SANITY_FILE = "sanity.json"

# Up to the first, similarity is of no account, though it may be more than chance; above the second, maps are
# alike, also where maps of unrelated images are.
NEGLIGIBLE, ALIKE = 0.2, 0.5


class Stage(_Part):
    """`part`: what was randomised in this stage, beside all stages before it. `similarity`: of the maps to
    those of the trained model. `blank`: maps without any heat."""

    part: str
    similarity: Similarity
    blank: int


class Sanity(_Part):
    """Stages from the head down. `unrelated`: similarity of the trained model's maps of different images."""

    model: str
    layer: str
    method: str
    images: int
    stages: tuple[Stage, ...]
    unrelated: Similarity

    @property
    def passed(self) -> bool:
        """Whether with all weights random the maps are no more like those of the trained model than maps of
        other images are, as far as the images tell, or hardly alike; and in no case much alike. Both by ranks
        and by structure."""
        last = self.stages[-1].similarity
        return all(
            mean.value <= min(max(level.high, NEGLIGIBLE), ALIKE)
            for mean, level in (
                (last.spearman, self.unrelated.spearman),
                (last.ssim, self.unrelated.ssim),
            )
        )

    @property
    def verdict(self) -> str:
        """A sentence for people."""
        last = self.stages[-1].similarity
        figures = (
            f"with all weights random, rank correlation {last.spearman.value:.2f} and structural similarity "
            f"{last.ssim.value:.2f} to the trained model's maps; maps of unrelated images have "
            f"{self.unrelated.spearman.value:.2f} and {self.unrelated.ssim.value:.2f}"
        )
        if self.passed:
            return f"passed: the maps depend on what the model has learned ({figures})"
        return (
            "failed: the maps stay alike when all weights are randomised, so that they do not show "
            f"what it has learned; do not believe them ({figures})"
        )


# Which pixels of a picture of some side each region covers.
REGIONS: dict[str, Callable[[int], Mask]] = {
    "top left corner": partial(corner, top=True, left=True),
    "top right corner": partial(corner, top=True, left=False),
    "bottom left corner": partial(corner, top=False, left=True),
    "bottom right corner": partial(corner, top=False, left=False),
    "border": border,
    "middle": middle,
}


def reliance(scores: Any, classes: Sequence[str]) -> tuple[OcclusionReport, ...]:
    """From scores (N, 1 + places, K), the whole image first and then each of `REGIONS` hidden; one entry for
    each class that is predicted of an image."""
    scores = np.asarray(scores, np.float64)
    predicted = scores[:, 0].argmax(axis=1)
    ahead = _margin(scores, predicted)
    found = []
    for number, name in enumerate(classes):
        members = ahead[predicted == number]
        if len(members):
            whole = members[:, 0].mean()
            hidden = {
                place: OcclusionEffect(
                    lost=float(1 - members[:, row].mean() / whole) if whole > 0 else 0.0,
                    changed=float((members[:, row] < 0).mean()),
                )
                for row, place in enumerate(REGIONS, 1)
            }
            found.append(OcclusionReport(class_name=name, images=len(members), hidden=hidden))
    return tuple(found)


def reliance_of_findings(scores: Any, classes: Sequence[str]) -> tuple[OcclusionReport, ...]:
    """As `reliance`, one entry for each finding that is seen in an image: whose score, which it is ahead of
    its absence by, is above 0."""
    scores = np.asarray(scores, np.float64)
    found = []
    for number, name in enumerate(classes):
        against = np.stack([np.zeros_like(scores[..., number]), scores[..., number]], axis=-1)
        found += [one for one in reliance(against, ("", name)) if one.class_name]
    return tuple(found)


def _margin(scores: Any, predicted: Any) -> Any:
    """Score of the class predicted of the whole image minus the highest other one: (N, 1 + places)."""
    is_other = np.arange(scores.shape[-1]) != predicted[:, np.newaxis]
    own = np.take_along_axis(scores, predicted[:, np.newaxis, np.newaxis], axis=2)[..., 0]
    return own - np.where(is_other[:, np.newaxis], scores, -np.inf).max(axis=-1)
