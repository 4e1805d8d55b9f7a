"""What a run asks for: stored with the run, checked before anything is enqueued. No TensorFlow here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["gradcam"]
Colormap = Literal["inferno", "magma", "viridis", "cividis", "turbo", "gray", "blue-red"]
OutputFormat = Literal["jpeg", "png", "webp"]
PREDICTED = "predicted"


class ExplainOptions(BaseModel):
    """How images are explained and drawn. Two runs with equal options give equal files and rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[str, ...] = Field((), description="layers by name; empty: the model's default layer")
    method: Method = "gradcam"
    target: str = Field(PREDICTED, description="the class that is explained, or 'predicted'")
    colormap: Colormap = "inferno"
    opacity: float = Field(0.5, ge=0.0, le=1.0, description="share of colour where the heatmap is 1")
    output_format: OutputFormat = "jpeg"
    heatmaps: bool = Field(False, description="keep the raw heatmaps beside the overlays")
