"""What a recipe sets for instruction following."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openk2.gym.config import QuestionsConfig

Kind = Literal["inventory", "selection", "ordering", "total", "retelling"]


class InstructionsConfig(QuestionsConfig):
    """Composed tasks. Level 1 has 1 or 2 demands on 2 facts, level 2 has 2 or 3 on 3 or 4, level 3 has 4 or 5 on 4 to 6."""

    kinds: tuple[Kind, ...] = Field(
        default=("inventory", "selection", "ordering", "total", "retelling"),
        min_length=1,
        description="what the tasks are about, in equal shares",
    )
    num_train: int = Field(default=400, ge=0, description="tasks of the train split")
    num_heldout: int = Field(default=100, ge=0, description="tasks of the heldout split")
    num_soft: int = Field(
        default=0, ge=0, le=3, description="demands on tone in each task that only a judge can decide"
    )
