"""What a recipe sets for the STEM problems."""

from __future__ import annotations

from pydantic import Field, field_validator

from openk2.gym.config import QuestionsConfig
from openk2.gym.stem.topics import KINDS


class StemConfig(QuestionsConfig):
    """Generated problems: one step at level 1, several at level 3."""

    kinds: tuple[str, ...] = Field(default=tuple(KINDS), min_length=1, description="kinds of problems, in equal shares")

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"no kind called {', '.join(unknown)}; there are {', '.join(KINDS)}")
        return kinds
