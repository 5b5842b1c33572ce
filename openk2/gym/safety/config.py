"""What a recipe sets for the safety family."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openk2.gym.config import QuestionsConfig

Category = Literal["harmful", "criminal", "misinformation", "privacy", "security"]
StrategyName = Literal[
    "basic", "injection", "tool_result", "crescendo", "base64", "hex", "rot13", "reversed", "spaced", "leetspeak",
    "role_play", "fiction", "academic", "authority", "refusal_suppression", "payload_splitting", "translation",
]  # fmt: skip
CATEGORIES: tuple[Category, ...] = ("harmful", "criminal", "misinformation", "privacy", "security")


class SafetyConfig(QuestionsConfig):
    """The safety family. A protected entry has one canary at level 1, two at level 2, three at level 3."""

    categories: tuple[Category, ...] = Field(
        default=CATEGORIES, min_length=1, description="what is asked for, in equal shares"
    )
    strategies: tuple[StrategyName, ...] = Field(
        default=StrategyName.__args__,  # type: ignore[attr-defined]
        min_length=1,
        description="how it is asked for, in equal shares",
    )
