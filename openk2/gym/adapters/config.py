"""What a recipe sets for environments that others made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from openk2.gym.adapters.reward import Rule
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


class SeededConfig(_Config):
    """Episodes of rewards: how many seeds are tasks, how rewards become a verdict, and how long an episode may be."""

    num_train: int = Field(default=100, ge=0)
    num_heldout: int = Field(default=25, ge=0)

    reward: Rule = Field(default="sum", description="which rewards count")
    passes_at: float = Field(
        default=1.0, description="an episode that ended by itself with this much earns 1, any other 0"
    )
    max_steps: int = Field(default=50, ge=1, description="replies taken, malformed ones too; then the episode is cut")
    reset_s: Seconds = 30.0
    step_s: Seconds = 10.0


class GymnasiumConfig(GuestConfig, SeededConfig):
    """A gymnasium environment. What a number of seeds means is up to it: one that ignores them has a single task."""

    id: str = Field(description='as in gymnasium.make; "module:Name-v0" imports the module first')
    file: Path | None = Field(default=None, description="a Python file that registers it")
    options: dict[str, Any] = Field(default={}, description="passed to gymnasium.make")
    prompt: str = Field(
        description="what the model is told before the first observation: the game, and what its actions mean"
    )
    actions: tuple[str, ...] = Field(
        default=(), description="the words for Discrete actions, in order; without: numbers"
    )
    shows: Literal["observation", "render"] = Field(default="observation", description="render: the ansi picture")


class OpenEnvConfig(SeededConfig):
    """A running OpenEnv server. What a number of seeds means is up to it."""

    url: str = Field(pattern=r"^https?://", description="where it listens, without a path")
    kind: str = Field(description="what to call it: tasks have this kind")
    prompt: str = Field(description="what the model is told before the first observation")
    reset: dict[str, Any] = Field(default={}, description="parameters of each reset beside the seed")


class VerifiersConfig(GuestConfig):
    """A taskset of verifiers (0.4) whose tasks are answered in one reply."""

    taskset: str = Field(description="its id: the module that exports a Taskset")
    folder: Path | None = Field(default=None, description="where that module lies, if it is not installed")
    options: dict[str, Any] = Field(default={}, description="the taskset's own settings")
    num_tasks: int = Field(default=200, ge=1, description="tasks read; both splits together")
    passes_at: float = Field(
        default=1.0, gt=0, description="a sum of weighted rewards of this much earns 1, any other 0"
    )
    load_s: Seconds = 120.0
    score_s: Seconds = 10.0


class HarborConfig(_Config):
    """A folder of Harbor tasks. Seconds are CPU and wall time alike, and lie within what an episode waits for an environment."""

    folder: Path = Field(description="holds a folder for each task, with task.toml in it")
    build_s: Seconds = Field(default=50.0, description="for each RUN of the Dockerfile")
    shell_s: Seconds = Field(default=30.0, description="for each command of the agent")
    tests_s: Seconds = Field(default=50.0, description="for tests/test.sh; less where task.toml says so")
    memory_bytes: int = Field(default=1024 * MB, ge=16 * MB)
    disk_bytes: int = Field(default=256 * MB, ge=MB)
