"""What a recipe holds: every room's configuration under one roof."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openk2.data.config import DataConfig
from openk2.eval.config import EvalConfig
from openk2.gym import catalogue
from openk2.gym.config import GymConfig
from openk2.model.config import ModelConfig
from openk2.recipe.check import check
from openk2.recipe.files import read, write
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import least_vocab_size
from openk2.train.config import PretrainConfig, RLConfig, SFTConfig
from openk2.worlds.config import WorldsConfig


class Budget(BaseModel):
    """Wall time a stage may take, in seconds; the run reports against it. ``sft_control`` takes what RL takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: float = Field(default=30, gt=0, description="Reading the corpus, training the tokenizer, writing tokens.")
    worlds: float = Field(default=30, gt=0, description="Making tasks and playing the teacher's trajectories.")
    pretrain: float = Field(default=150, gt=0, description="Pre-training.")
    sft: float = Field(default=180, gt=0, description="Supervised fine-tuning.")
    rl: float = Field(default=150, gt=0, description="Reinforcement learning, and again for its control.")
    eval: float = Field(default=60, gt=0, description="Evaluating all four models.")


class Recipe(BaseModel):
    """Everything about a run. Equal recipes, seeds and threads give equal weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the run's folder, runs/NAME.")
    seed: int = Field(default=0, ge=0, description="Every random stream starts here.")
    threads: int = Field(default=2, ge=1, description="CPU threads; part of the recipe because sums depend on it.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes a GPU where there is one.")
    budget: Budget = Field(default_factory=Budget, description="Seconds each stage may take.")
    data: DataConfig = Field(description="What to pre-train on.")
    tokenizer: TokenizerConfig = Field(description="The tokenizer, trained on the corpus.")
    model: ModelConfig = Field(description="The model's shape.")
    worlds: WorldsConfig = Field(default_factory=WorldsConfig, description="Apps, tasks and the teacher.")
    gym: GymConfig = Field(default_factory=GymConfig, description="What of the gym is demonstrated.")
    pretrain: PretrainConfig = Field(description="Pre-training.")
    sft: SFTConfig | None = Field(default=None, description="Supervised fine-tuning; none: no such stage.")
    rl: RLConfig | None = Field(default=None, description="Reinforcement learning; none: no such stage.")
    eval: EvalConfig = Field(default_factory=EvalConfig, description="What is measured after each stage.")

    @model_validator(mode="after")
    def _rooms_fit_together(self) -> Self:
        if self.tokenizer.vocab_size > self.model.vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size {self.tokenizer.vocab_size} exceeds model.vocab_size {self.model.vocab_size}"
            )
        for name, stage in (("pretrain", self.pretrain), ("sft", self.sft), ("rl", self.rl)):
            if stage and stage.row_length > self.model.max_positions:
                raise ValueError(
                    f"{name}.row_length {stage.row_length} exceeds model.max_positions {self.model.max_positions}"
                )
        least = least_vocab_size(self.tokenizer)
        if self.tokenizer.vocab_size < least:
            raise ValueError(
                f"tokenizer.vocab_size {self.tokenizer.vocab_size} is too small: bytes and fixed tokens take {least}"
            )
        for key, named in (
            ("sft.questions", self.sft.questions if self.sft else {}),
            ("rl.families", self.rl.families if self.rl else {}),
            ("rl.critic.families", self.rl.critic.families if self.rl and self.rl.critic else ()),
            ("gym.undemonstrated", self.gym.undemonstrated),
            ("gym.services", self.gym.services),
        ):
            if unknown := [family for family in named if family not in catalogue.NAMES]:
                raise ValueError(f"{key}: there is no family {unknown[0]!r}, there are {', '.join(catalogue.NAMES)}")
        if self.rl and not self.sft:
            raise ValueError("rl stands on sft: give the recipe an [sft] section, or leave [rl] out")
        return self

    @property
    def fingerprint(self) -> str:
        """16 hex digits that differ when anything in the recipe does."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the resolved recipe, without any base; `load` reads it back equal."""
        write(self.model_dump(mode="json"), path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe file. Raises ValueError or FileNotFoundError with one line that names file and key."""
        data, origin = read(path)
        return check(cls, data, origin, str(path))
