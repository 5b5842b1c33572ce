"""What a recipe sets for the critic."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Wording = Literal["short", "full"]


class CriticConfig(BaseModel):
    """How answers are compared, and how long that may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wording: Wording = Field(
        default="short", description="short: rubrics by name, for small models; full: whole statements, for endpoints"
    )
    opponents: int | None = Field(
        default=None, ge=2, multiple_of=2, description="others each answer meets, in a ring; none: all others"
    )
    verdict_tokens: int = Field(default=4, ge=1, description="tokens a verdict of a pair may have")
    group_s: float = Field(default=300.0, gt=0, description="seconds for the verdicts over one group of answers")
    seed: int = Field(default=0, description="draws the order in which a groupwise judge is shown the answers")
