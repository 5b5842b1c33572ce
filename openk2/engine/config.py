"""What can be set about the engine."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class EngineConfig(BaseModel):
    """Memory and batch limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_slots: PositiveInt = Field(256, description="sequences whose latents are held; also the largest decode batch")
    max_context: PositiveInt = Field(1024, description="tokens of one sequence, prompt and answer together")
    prefill_tokens: PositiveInt = Field(4096, description="prompt tokens admitted between two decode steps")
