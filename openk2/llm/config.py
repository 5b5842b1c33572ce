"""The knobs of an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class EndpointConfig(BaseModel):
    """Where a chat model is, and how patiently it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(pattern=r"^https?://", description="Where the API begins, as in http://127.0.0.1:8000/v1.")
    model: str = Field(description="The model's name there.")
    api_key_env: str = Field("", description="Environment variable that holds the key; empty: the server wants none.")
    max_in_flight: int = Field(64, ge=1, description="Most requests under way at once; fewer while it answers 429.")
    max_attempts: int = Field(8, ge=1, description="Times a request is sent before the call fails.")
    attempt_s: float = Field(120.0, gt=0, description="Seconds for one attempt, connecting to last byte.")
    call_s: float = Field(900.0, gt=0, description="Seconds for a call with all its attempts, once it has its turn.")
    queue_s: float = Field(3600.0, gt=0, description="Seconds a call may wait for its first turn.")
    backoff_s: float = Field(0.5, gt=0, description="Longest wait before the second attempt; doubles with each more.")
    longest_backoff_s: float = Field(30.0, gt=0, description="Where the doubling ends.")
    cache: Path | None = Field(None, description="SQLite file of answers; what it holds is not asked again.")
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What the server calls the limit of an answer's tokens."
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="More keys for the body of every request.")
