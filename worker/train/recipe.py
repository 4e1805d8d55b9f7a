"""How a model is trained: every number a setting, stored with the version it made."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker.errors import XraycamError
from worker.model.architectures import ARCHITECTURES, MOBILENETV2
from worker.model.metadata import Head, Preprocessing


class RecipeError(XraycamError):
    """Raised for a recipe that does not exist or does not fit the network."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KerasAugmentation(_Part):
    """Keras's own random layers, in this order, on pixels of 0..255. Shares are those of the layers."""

    kind: Literal["keras"] = "keras"
    flip: Literal["horizontal", "vertical", "horizontal_and_vertical"] = "horizontal_and_vertical"
    rotation: float = Field(0.2, ge=0.0, le=1.0, description="at most, as a share of a full turn")
    contrast: float = Field(1.0, ge=0.0, le=1.0)
    zoom: tuple[float, float] = (0.5, 0.2)
    translation: tuple[float, float] = (0.3, 0.5)


class ChestAugmentation(_Part):
    """Changes that leave a chest a chest: another position, exposure, film, hospital. Never upside down."""

    kind: Literal["chest"] = "chest"
    flip: float = Field(0.5, ge=0.0, le=1.0, description="how often left and right change places")
    rotation: float = Field(10.0, ge=0.0, le=180.0, description="at most, degrees")
    window: tuple[float, float] = Field((0.75, 1.1), description="side of the part seen, share of the whole")
    aspect: float = Field(0.12, ge=0.0, lt=1.0, description="at most, logarithm of width by height")
    shift: float = Field(0.04, ge=0.0, lt=0.5, description="at most, share of the side")
    gamma: float = Field(0.4, ge=0.0, lt=2.0, description="at most, logarithm of the exponent")
    contrast: float = Field(0.3, ge=0.0, lt=2.0, description="at most, logarithm of the factor")
    brightness: float = Field(0.1, ge=0.0, lt=1.0, description="at most, share of white")
    blur: float = Field(0.15, ge=0.0, le=1.0, description="how often")
    noise: float = Field(0.02, ge=0.0, lt=0.5, description="standard deviation at most, share of white")
    erase: float = Field(
        0.3, ge=0.0, le=1.0, description="how often one to three rectangles are painted over"
    )
    border: float = Field(0.3, ge=0.0, le=1.0, description="how often edges are painted over")


Augmentation = Annotated[KerasAugmentation | ChestAugmentation, Field(discriminator="kind")]


class Stage(_Part):
    """A stretch of training with its own learning rate and a fresh optimizer."""

    epochs: int = Field(ge=1, le=1000)
    learning_rate: float = Field(gt=0.0, description="at its highest")
    schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    warmup: float = Field(
        0.1, ge=0.0, lt=1.0, description="share of a cosine stage in which the learning rate rises"
    )
    decay: float = Field(1.0, gt=0.0, le=1.0, description="exponential: factor per epoch")
    head_only: bool = Field(False, description="only the head learns")


class Recipe(_Part):
    """Everything that decides what comes out of a training, apart from the data and the first weights.

    `default` is the one to use. `reference` reproduces the reference's settings, for comparison only: it does
    not learn. `reference-tuned` has its network and head and does; see docs/decisions/reference-recipe.md.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    architecture: Literal["mobilenetv2", "efficientnetv2-b0", "densenet121", "resnet50", "convnext-tiny"] = (
        "mobilenetv2"
    )
    preprocessing: Preprocessing = Preprocessing()
    alpha: float = Field(1.0, gt=0.0, le=1.4, description="width of MobileNetV2")
    head: Head = Head()
    seed: int = Field(12, ge=0)
    validation_share: float = Field(0.15, gt=0.0, lt=0.9)
    min_per_class: int = Field(10, ge=2, description="images a class must have")
    batch: int = Field(32, ge=2)
    augmentation: Augmentation = ChestAugmentation()
    cached_augmentations: int = Field(
        16, ge=0, description="augmented copies per image, computed once; 0: a new one in every epoch"
    )
    freeze_until: str | None = Field("block_9_add", description="layer up to which weights stay as they are")
    batch_norm: Literal["frozen", "released"] = Field("frozen", description="of the network, not of the head")
    stages: tuple[Stage, ...] = Field(min_length=1, description="those of the head alone first")
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: float = Field(1e-4, ge=0.0, description="adamw: not on biases and batch norms")
    clip_norm: float = Field(5.0, ge=0.0, description="of the whole gradient; 0: no limit")
    label_smoothing: float = Field(0.05, ge=0.0, lt=1.0)
    localisation_loss_weight: float = Field(
        1.0, ge=0.0, description="weight of finding the marked areas, where the data has them; 0: not used"
    )
    localisation_layers: tuple[str, ...] = Field(
        ("out_relu",), description="layers from whose map the marked areas must be found"
    )
    class_weights: bool = Field(
        True,
        description="rare classes count as much as frequent ones; probabilities stay those of the images",
    )
    ema_decay: float = Field(
        0.98, ge=0.0, lt=1.0, description="of the weights' exponential moving average over steps; 0: none"
    )
    bn_recalibration_images: int = Field(
        1024,
        ge=0,
        description="training images on which the head's batch norms are measured anew before evaluation",
    )
    monitor: Literal["last", "val_loss", "val_auc", "val_accuracy"] = Field(
        "last", description="the epoch whose weights are kept: the last, or the best on the validation part"
    )
    patience: int = Field(0, ge=0, description="epochs without a better one until a stage ends; 0: never")

    @model_validator(mode="after")
    def _stages_in_order(self) -> Recipe:
        of_head = [stage.head_only for stage in self.stages]
        if of_head != sorted(of_head, reverse=True):
            raise ValueError("stages of the head alone must come first")
        if self.patience and self.monitor == "last":
            raise ValueError("patience needs a monitor: val_loss, val_auc or val_accuracy")
        return self

    @model_validator(mode="after")
    def _architecture_has_its_scale(self) -> Recipe:
        known = ARCHITECTURES[self.architecture]
        if known is not MOBILENETV2 and self.preprocessing.scale != known.scale:
            raise ValueError(
                f"{self.architecture} takes preprocessing.scale {known.scale}, not "
                f"{self.preprocessing.scale}: --architecture {self.architecture} sets it"
            )
        return self

    def of_architecture(self, name: str) -> Recipe:
        """This recipe for another network, with the scale and layers of that. Raises RecipeError for a recipe
        that reproduces the reference, which is MobileNetV2's."""
        known = ARCHITECTURES[name]
        if name == self.architecture:
            return self
        if self.name.startswith("reference"):
            raise RecipeError(f"recipe {self.name} is MobileNetV2's; use --recipe default for {name}")
        changed = {
            "name": f"{self.name}-{name}",
            "architecture": name,
            "preprocessing": self.preprocessing.model_copy(update={"scale": known.scale}),
            "freeze_until": known.freeze_until,
            "localisation_layers": (known.last_layer,),
            "alpha": 1.0,
        }
        return Recipe.model_validate(self.model_dump() | changed)

    def from_random_weights(self) -> Recipe:
        """This recipe with nothing frozen: random layers that stay so have nothing to say."""
        stages = tuple(stage.model_copy(update={"head_only": False}) for stage in self.stages)
        name = f"{self.name}-all-layers"[:64]
        changed = {"name": name, "freeze_until": None, "batch_norm": "released", "stages": stages}
        return self.model_copy(update=changed)

    @property
    def learns_everything(self) -> bool:
        return (
            self.freeze_until is None
            and self.batch_norm == "released"
            and not all(stage.head_only for stage in self.stages)
        )

    @property
    def epochs(self) -> int:
        """Epochs of all stages, at most."""
        return sum(stage.epochs for stage in self.stages)


REFERENCE = Recipe(
    name="reference",
    preprocessing=Preprocessing(size=100, scale="unit"),
    head=Head(units=128, dropout=0.8, l2=0.1),
    seed=12,
    validation_share=0.2,
    batch=32,
    augmentation=KerasAugmentation(),
    cached_augmentations=0,
    freeze_until=None,
    batch_norm="released",
    stages=(Stage(epochs=50, learning_rate=1e-5 * 0.99**50, schedule="exponential", decay=0.99),),
    optimizer="adam",
    clip_norm=0.0,
    label_smoothing=0.0,
    localisation_loss_weight=0.0,
    class_weights=False,
    ema_decay=0.0,
    bn_recalibration_images=0,
    monitor="val_accuracy",
    patience=10,
)

# The same network and head, regularisation, batch and seed, with what it takes to learn:
# docs/decisions/reference-recipe.md.
REFERENCE_TUNED = Recipe.model_validate(
    REFERENCE.model_dump()
    | {
        "name": "reference-tuned",
        "augmentation": ChestAugmentation(),
        "cached_augmentations": 8,
        "freeze_until": "block_9_add",
        "batch_norm": "frozen",
        "bn_recalibration_images": 1024,
        "stages": (Stage(epochs=4, learning_rate=1e-3, head_only=True), Stage(epochs=10, learning_rate=2e-4)),
        "monitor": "last",
        "patience": 0,
    }
)

DEFAULT = Recipe(
    name="default",
    preprocessing=Preprocessing(size=224, margin=0.05),
    head=Head(units=128, dropout=0.5, l2=1e-3),
    stages=(Stage(epochs=6, learning_rate=1e-3, head_only=True), Stage(epochs=40, learning_rate=2e-4)),
)

RECIPES = {recipe.name: recipe for recipe in (DEFAULT, REFERENCE, REFERENCE_TUNED)}


def recipe_named(name: str) -> Recipe:
    """The recipe called `name`. Raises RecipeError with the known names."""
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise RecipeError(f"there is no recipe {name!r}; known: {', '.join(RECIPES)}{hint}")
