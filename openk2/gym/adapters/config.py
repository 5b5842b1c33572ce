"""What a recipe sets for environments that others made."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GuestConfig(_Config):
    """An environment whose package is Python."""

    python: str = Field(
        default=sys.executable, description="the interpreter that has the package; it may be another one"
    )


class ReasoningGymConfig(GuestConfig):
    """One dataset of reasoning-gym."""

    dataset: str = Field(description="its name, as in reasoning_gym.create_dataset")
    seed: int = 0
    size: int = Field(default=200, ge=1, description="entries made; both splits together")
    options: dict[str, Any] = Field(default={}, description="the dataset's own settings")
    make_s: Seconds = Field(default=120.0, description="to make all entries")
    score_s: Seconds = Field(default=10.0, description="to score one answer; longer is a wrong one")
