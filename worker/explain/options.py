"""What a run asks for: stored with the run, checked before anything is enqueued. No TensorFlow here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Method = Literal["auto", "gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigencam", "scorecam"]
Colormap = Literal["inferno", "magma", "viridis", "cividis", "turbo", "gray", "blue-red"]
OutputFormat = Literal["jpeg", "png", "webp"]
PREDICTED = "predicted"
ALL = "all"
AUTO = "auto"


class ExplainOptions(BaseModel):
    """How images are explained and drawn. Two runs with equal options give equal files and rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[str, ...] = Field((), description="layers by name; empty or 'auto': the model's default")
    methods: tuple[Method, ...] = Field((), description="empty or 'auto': the model's default")
    target: str = Field(PREDICTED, description="the class that is explained, 'predicted' or 'all'")
    colormap: Colormap = "inferno"
    opacity: float = Field(0.5, ge=0.0, le=1.0, description="share of colour where the heatmap is 1")
    output_format: OutputFormat = "jpeg"
    heatmaps: bool = Field(False, description="keep the raw heatmaps beside the overlays")
    masks: str | None = Field(None, description="marked areas: a folder of masks or a JSON file, absolute")

    @model_validator(mode="before")
    @classmethod
    def _from_older(cls, given: Any) -> Any:
        """Runs enqueued by an older release name one method."""
        if isinstance(given, dict) and "method" in given:
            rest = {name: value for name, value in given.items() if name != "method"}
            return {"methods": (given["method"],), **rest}
        return given

    @property
    def every_class(self) -> bool:
        return self.target == ALL
