"""What a training is asked for beside data and recipe: stored with it in the ledger. No TensorFlow here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Promote = Literal["if-better", "always", "never"]


class TrainOptions(BaseModel):
    """How a training's result is judged, named and published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group_by: str | None = Field(None, description="regular expression that finds the patient in a file name")
    test: str | None = Field(None, description="a second labelled folder to measure on, absolute")
    promote: Promote = Field("if-better", description="when the new version becomes current")
    tolerance: float = Field(0.01, ge=0.0, le=1.0, description="if-better: by how much less AUC it may have")
    version: str | None = Field(None, pattern=VERSION_PATTERN, description="its name; None: made up")
