"""How much a box may take, and what is found in it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

MB = 1 << 20


class Limits(BaseModel):
    """Limits of one box. Times are for one run; a run that reaches one is ended with all it started."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu_s: float = Field(default=5.0, gt=0, description="CPU seconds, of all processes together")
    wall_s: float = Field(default=10.0, gt=0, description="seconds from start to end")
    memory_bytes: int = Field(default=256 * MB, ge=16 * MB, description="memory, of all processes together")
    processes: int = Field(default=32, ge=1, description="processes and threads alive at once")
    disk_bytes: int = Field(default=32 * MB, ge=1 * MB, description="work folder and /tmp together; kept in memory")
    output_bytes: int = Field(default=1 * MB, ge=1, description="stdout and stderr together")


@dataclass(frozen=True, slots=True)
class Fittings:
    """What programs find in a box beside the system.

    ``links`` are folders of the work folder that are in the root too: "app" as /app. ``packages`` of this interpreter, and what they
    require, can be read at ``packages.SHOWN_AT``.
    """

    links: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


BARE = Fittings()
