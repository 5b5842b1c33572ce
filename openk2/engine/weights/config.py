"""What can be set about weight updates."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

Form = Literal["pipeline", "two-stage"]
FORMS: tuple[Form, ...] = ("pipeline", "two-stage")


class WeightsConfig(BaseModel):
    """How weights travel; trainer rank 0 decides for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    via: Literal["shared", "gloo", "nccl"] = Field("shared", description="shared memory of one machine, or broadcast")
    folder: Path = Field(Path("/dev/shm/openk2-weights"), description="of the shared memory; on a tmpfs")
    form: Form = Field("pipeline", description="how the stages of a broadcast overlap; Trainer.choose measures it")
    bucket_bytes: PositiveInt = Field(64 * 2**20, description="bytes that travel together")
    time_limit: PositiveFloat = Field(30.0, description="seconds a party may be silent before it counts as dead")
