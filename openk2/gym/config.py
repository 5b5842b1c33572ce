"""What a recipe sets for the single-question families."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ArithmeticKind = Literal["sum", "difference", "missing_addend", "story", "comparison"]
LogicKind = Literal["ordering", "odd_one_out", "sequence", "membership", "facts"]
Level = Annotated[int, Field(ge=1, le=3)]


class GymConfig(BaseModel):
    """What of the gym's families is demonstrated, and what is left to reinforcement learning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    undemonstrated: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="kinds of task, by family, that no demonstration shows: what RL is for",
    )
    services: dict[str, str] = Field(
        default_factory=dict, description="families whose environments are played at a service, with its URL"
    )


class QuestionsConfig(BaseModel):
    """How many questions are made, and how hard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: tuple[Level, ...] = Field(default=(1, 2, 3), min_length=1, description="difficulty, in equal shares")
    num_train: int = Field(default=2000, ge=0, description="tasks of the train split")
    num_heldout: int = Field(default=500, ge=0, description="tasks of the heldout split")
    seed: int = Field(default=0, description="draws the questions; never moves one from a split to the other")


class ArithmeticConfig(QuestionsConfig):
    """Arithmetic. Operands have one digit at level 1, one and two at level 2, two at level 3."""

    kinds: tuple[ArithmeticKind, ...] = Field(
        default=("sum", "difference", "missing_addend", "story", "comparison"),
        min_length=1,
        description="question kinds, in equal shares",
    )


class LogicConfig(QuestionsConfig):
    """Logic puzzles."""

    kinds: tuple[LogicKind, ...] = Field(
        default=("ordering", "odd_one_out", "sequence", "membership", "facts"),
        min_length=1,
        description="puzzle kinds, in equal shares",
    )
