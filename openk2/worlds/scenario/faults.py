"""Faults that strike calls: seeded, logged, at stated rates."""

from __future__ import annotations

from random import Random
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openk2.schema import JSON

Fault = Literal["timeout", "server_error", "rate_limit", "partial", "stale"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

# What the caller reads. A partial write and a stale read come with data instead.
ERRORS: dict[Fault, str] = {
    "timeout": "timed out, nothing was done",
    "server_error": "503 service unavailable",
    "rate_limit": "429 too many requests, try again",
}


class FaultRates(BaseModel):
    """How often a call meets which fault. A ``partial`` write does one field of several; a ``stale`` read shows how a
    record was before the episode's last change of it: both strike only where there is something to strike.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout: float = Field(0.01, ge=0, le=1, description="Chance that a call times out, without effect.")
    server_error: float = Field(0.01, ge=0, le=1, description="Chance of a 503.")
    rate_limit: float = Field(0.01, ge=0, le=1, description="Chance of a 429.")
    partial: float = Field(
        0.05, ge=0, le=1, description="Chance that an update of several fields does the first alone."
    )
    stale: float = Field(0.05, ge=0, le=1, description="Chance that a changed record is read as it was.")
    most: int = Field(3, ge=0, description="Faults of one episode at most.")

    @model_validator(mode="after")
    def _is_a_distribution(self) -> FaultRates:
        if (total := sum(getattr(self, name) for name in FAULTS)) > 1:
            raise ValueError(f"the rates of {', '.join(FAULTS)} add up to {total:g}, more than 1")
        return self

    def draw(self, seed: int, number: int) -> Fault | None:
        """The fault of an episode's call ``number``, if any: the same for the same seed."""
        if self.most == 0:
            return None
        chance = Random(seed * 1_000_003 + number).random()
        for name in FAULTS:
            chance -= getattr(self, name)
            if chance < 0:
                return name
        return None


NO_FAULTS = FaultRates(timeout=0, server_error=0, rate_limit=0, partial=0, stale=0, most=0)


def is_temporary(result: JSON) -> bool:
    """Whether a result asks for the same call again: an error of transport, half a write, an old reading."""
    return result.get("error") in ERRORS.values() or bool(result.get("incomplete")) or bool(result.get("stale"))
