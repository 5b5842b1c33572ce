"""What can be set about training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from openk2.gym.critic.config import CriticConfig
from openk2.llm.config import EndpointConfig
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
    flaw_rate: float = Field(default=0.0, ge=0, le=1, description="share of the letters shown that carry a known flaw")
    critiques: int = Field(default=0, ge=0, description="preference pairs shown with their verdict, in both orders")


class CriticTrainingConfig(BaseModel):
    """The self-critique rubric reward, and what keeps the critic honest (K2 §3.2)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    families: tuple[str, ...] = Field(min_length=1, description="families whose replies are compared, not verified")
    compare: CriticConfig = Field(default_factory=CriticConfig, description="how replies are compared")
    endpoint: EndpointConfig | None = Field(default=None, description="another model as the judge; none: the policy")
    groupwise: bool = Field(default=False, description="the endpoint ranks a whole group at once")
    verified_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="how much of a reply's reward its environment's own score is; the rest is the critic's",
    )
    pairs_per_step: int = Field(
        default=0, ge=0, description="pairs of verified rollouts that the critic learns from in a step; 0: it does not"
    )
    known_per_step: int | None = Field(
        default=None,
        ge=0,
        description="pairs with known flaws rehearsed beside them; none: as many as there are of them",
    )
    weight: PositiveFloat = Field(default=0.3, description="weight of the loss on their verdicts")
    heldout_pairs: int = Field(default=56, ge=0, description="pairs with known flaws that measure the critic")
    measure_every: PositiveInt = Field(default=5, description="steps between measurements")

    @model_validator(mode="after")
    def _endpoint_ranks(self) -> Self:
        if self.groupwise and self.endpoint is None:
            raise ValueError("groupwise is how an endpoint judges: name one, or leave it out")
        return self


class RLConfig(StageConfig):
    """Reinforcement learning with rewards that are verified or judged (K2 §3.2)."""

    families: dict[str, PositiveFloat] = Field(description="task families and their share of the prompts")
    shown_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of a family's prompts, the share that is of kinds demonstrations show, where they do not show all",
    )
    prompts_per_step: PositiveInt = Field(description="prompts that a step learns from")
    rollouts_per_prompt: PositiveInt = Field(default=8, description="K, the size of a group")
    prompts_in_flight: PositiveInt | None = Field(
        default=None,
        description="prompts played at a time; beyond prompts_per_step, unfinished rollouts pause and go on in the next step",
    )
    max_staleness: int = Field(
        default=4, ge=0, description="steps a rollout's oldest token may be behind; older are dropped"
    )
    importance_cap: float | None = Field(
        default=None,
        ge=1,
        allow_inf_nan=False,
        description="largest importance weight of a stale or mismatched answer, or token by objective; none: no weights",
    )
    router_replay: bool = Field(default=False, description="train through the experts that were chosen when sampling")
    objective: Literal["sequence", "token"] = Field(default="token", description="form of the K1.5 objective")
    tau: PositiveFloat = Field(default=0.1, description="τ, the pull towards the sampling policy")
    temperature: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(1.0, 1.0), description="sampling, evenly from the first towards the second over the steps"
    )
    max_tokens: PositiveInt = Field(default=192, description="tokens an episode may sample; beyond, it is cut")
    budgets: dict[str, PositiveInt] = Field(
        default_factory=dict, description="the same by family, or by family/kind, where it differs"
    )
    truncation_penalty: float = Field(
        default=0.0, ge=0, description="what an episode that a budget cut loses; it earns nothing"
    )
    max_turns: PositiveInt = Field(default=6, description="assistant turns of an episode")
    env_seconds: PositiveFloat = Field(default=60.0, description="limit of one answer of an environment")
    ptx_weight: float = Field(default=0.0, ge=0, description="weight of the language-model loss on SFT dialogues")
    ptx_rows: PositiveInt = Field(default=8, description="rows of SFT dialogues in that loss")
    critic: CriticTrainingConfig | None = Field(
        default=None, description="rewards by comparison; none: verified ones alone"
    )
    rollout_workers: PositiveInt | None = Field(
        default=None, description="Ray actors that play in place of the trainer's own processes, on its cluster"
    )
    keep_rollouts: PositiveInt = Field(default=100, description="steps whose rollouts stay on the disk")

    @property
    def in_flight(self) -> int:
        """Prompts played at a time."""
        return max(self.prompts_in_flight or 0, self.prompts_per_step)
