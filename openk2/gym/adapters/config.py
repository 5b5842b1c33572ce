"""What a recipe sets for environments that others made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from openk2.sandbox.config import MB

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


class HarborConfig(_Config):
    """A folder of Harbor tasks. Seconds are CPU and wall time alike, and lie within what an episode waits for an environment."""

    folder: Path = Field(description="holds a folder for each task, with task.toml in it")
    build_s: Seconds = Field(default=50.0, description="for each RUN of the Dockerfile")
    shell_s: Seconds = Field(default=30.0, description="for each command of the agent")
    tests_s: Seconds = Field(default=50.0, description="for tests/test.sh; less where task.toml says so")
    memory_bytes: int = Field(default=1024 * MB, ge=16 * MB)
    disk_bytes: int = Field(default=256 * MB, ge=MB)
