"""What can be set about a service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class ServiceConfig(BaseModel):
    """Where it listens, on this machine alone, and how much it takes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(8100, ge=0, le=65535, description="on 127.0.0.1; 0 takes any free port")
    most_episodes: PositiveInt = Field(10_000, description="episodes alive at once; one more gets 429")
    idle_seconds: PositiveFloat = Field(1800.0, description="an episode that nobody asks for so long is closed")
    call_seconds: PositiveFloat = Field(60.0, description="for one call of an environment")
    hold_seconds: PositiveFloat = Field(
        5.0, description="that a call may go on without awaiting: all others wait for it"
    )
    stop_seconds: PositiveInt = Field(
        10, description="calls under way when told to stop; as long again, whatever hangs"
    )
    body_bytes: PositiveInt = Field(64 << 20, description="size of a request's body; more gets 413")
    body_seconds: PositiveFloat = Field(20.0, description="time to send a body; later gets 408")
