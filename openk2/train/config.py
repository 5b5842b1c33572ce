"""What can be set about training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from openk2.optim.config import OptimConfig, ScheduleConfig


class StageConfig(BaseModel):
    """What every training stage has: its length, batch, optimizer and schedule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: PositiveInt = Field(description="optimizer steps")
    micro_batch_rows: PositiveInt = Field(description="rows of one forward and backward pass")
    row_length: PositiveInt = Field(description="tokens of a row; documents are packed into rows")
    optim: OptimConfig = Field(default_factory=OptimConfig, description="the optimizer")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="the learning rate over the stage")
    balance_rate: float = Field(default=1e-3, ge=0, description="step of the router bias (auxiliary-loss-free balance)")
    checkpoint_every: PositiveInt = Field(default=100, description="steps between checkpoints")
    keep_checkpoints: PositiveInt = Field(default=2, description="newest checkpoints that are kept")


class SupervisedConfig(StageConfig):
    """A stage that learns from given rows."""

    batch_rows: PositiveInt = Field(description="rows of one optimizer step (the global batch)")


class PretrainConfig(SupervisedConfig):
    """Pre-training on the corpus (K2 §2.5)."""


class SFTConfig(SupervisedConfig):
    """Supervised fine-tuning on verified dialogues (K2 §3.1)."""

    questions: dict[str, PositiveInt] = Field(
        default_factory=dict, description="single-turn questions shown with their answers, by family"
    )


class RLConfig(StageConfig):
    """Reinforcement learning with verifiable rewards (K2 §3.2)."""

    prompts_per_step: PositiveInt = Field(description="prompts of one step")
    rollouts_per_prompt: PositiveInt = Field(default=8, description="K, the size of a group")
    families: dict[str, PositiveFloat] = Field(description="task families and their share of the prompts")
    objective: Literal["sequence", "token"] = Field(default="token", description="form of the K1.5 objective")
    tau: PositiveFloat = Field(default=0.1, description="τ, the pull towards the sampling policy")
    temperature: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(1.0, 1.0), description="sampling, first and last step"
    )
    max_tokens: PositiveInt = Field(default=192, description="tokens an episode may sample; beyond, cut and scored 0")
    max_turns: PositiveInt = Field(default=6, description="assistant turns of an episode")
    ptx_weight: float = Field(default=0.0, ge=0, description="weight of the language-model loss on SFT dialogues")
    ptx_rows: PositiveInt = Field(default=8, description="rows of SFT dialogues in that loss")
