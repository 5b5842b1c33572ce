"""What can be set about the server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt


class ServerConfig(BaseModel):
    """Where it listens, and how much it takes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on; one beyond this machine needs an API key")
    port: int = Field(8000, ge=0, le=65535, description="0 takes any free port")
    api_key: str | None = Field(None, repr=False, description="what clients must send as a bearer token")
    max_queue: NonNegativeInt = Field(256, description="answers that may wait for a slot; more get 429")
    max_choices: PositiveInt = Field(128, description="answers that one request may ask for: prompts times n")
    max_body_bytes: PositiveInt = Field(4_000_000, description="size of a request's body; more gets 413")
    body_seconds: PositiveFloat = Field(20.0, description="time to send a body; later gets 408")
    request_seconds: PositiveFloat = Field(600.0, description="time to answer; later gets 504")
    drain_seconds: PositiveFloat = Field(60.0, description="time that running answers get after SIGTERM")
