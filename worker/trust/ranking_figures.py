"""Layers and methods in the order of how faithful their maps are. No TensorFlow here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from worker.trust.curves import Faithfulness
from worker.trust.localisation import Localisation

RANKING_FILE = "ranking.json"
BLANK_ALLOWED = 0.1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ranked(_Part):
    """Figures of one layer and method, or of a baseline (`method` empty). `resolution`: height and width of
    its map. `blank`: maps without any heat among those that faithfulness was measured on."""

    layer: str
    method: str
    resolution: tuple[int, int]
    faithfulness: Faithfulness
    blank: int
    localisation: Localisation | None = None

    @property
    def name(self) -> str:
        return f"{self.layer} {self.method}".strip()


class Ranking(_Part):
    """Pairs of layer and method, the most faithful first, and maps that know nothing, on the same images.

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
        limit = BLANK_ALLOWED * self.images
        return next((pair for pair in self.pairs if pair.blank <= limit), self.pairs[0])
