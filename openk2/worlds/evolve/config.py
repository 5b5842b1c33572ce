"""What evolved worlds are asked for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from openk2.worlds.evolve.lexicon import categories


class EvolveConfig(BaseModel):
    """Which apps, and how large. The defaults make over 20 000 tools (K2 §3.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    categories: tuple[str, ...] = ()  # empty: all of the lexicon
    num_applications: int = Field(10, ge=1)  # of each category, at most
    num_entities: int = Field(7, ge=5, le=20)  # of each application: one of every kind and more

    @field_validator("categories")
    @classmethod
    def _are_known(cls, named: tuple[str, ...]) -> tuple[str, ...]:
        known = list(categories())
        if unknown := [name for name in named if name not in known]:
            raise ValueError(f"there is no category {unknown[0]!r}; there are {', '.join(known)}")
        return named
