"""The knobs of synthesis with a chat endpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openk2.llm.config import EndpointConfig

Part = Literal["apps", "users", "teacher", "judge"]


class SynthesisEndpoint(EndpointConfig):
    """A chat endpoint and the parts it plays; what it does not play stays scripted (the judge: by program alone)."""

    plays: tuple[Part, ...] = Field(
        ("apps", "users", "teacher", "judge"), min_length=1, description="What it does: apps, users, teacher, judge."
    )
    temperature: float = Field(0.7, ge=0, description="Of authors, users and teachers; the judge's is 0.")
    max_tokens: int = Field(4096, ge=1, description="Tokens of an answer at most.")
    trajectory_s: float = Field(1800.0, gt=0, description="Seconds for one trajectory, or one app, with its repairs.")
    num_calibration: int = Field(60, ge=2, description="Scripted episodes that the judge is measured on.")
