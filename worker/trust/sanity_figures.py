"""What the weight-randomisation test found, and the verdict. No TensorFlow here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from worker.trust.similarity import Similarity

SANITY_FILE = "sanity.json"

# Up to the first, similarity is of no account, though it may be more than chance; above the second, maps are
# alike, also where maps of unrelated images are.
NEGLIGIBLE, ALIKE = 0.2, 0.5


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
            "failed: the maps stay alike when the model forgets all it has learned, so that they do not show "
            f"what it has learned; do not believe them ({figures})"
        )
