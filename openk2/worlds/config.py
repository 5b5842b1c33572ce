"""The knobs of the worlds room."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openk2.worlds.domains import APPS
from openk2.worlds.kinds import KINDS

SPLITS = ("train", "heldout", "undemonstrated", "undemonstrated_heldout", "unseen_domain")


class WorldsConfig(BaseModel):
    """Which apps and task kinds are shown to whom, how many tasks there are, and how rough the world is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, description="Seed of every task, skin and teacher; faults take the episode's seed as well.")
    demonstrated: tuple[str, ...] = Field(
        ("shop", "library", "bank", "support", "hotel", "inventory", "fitness"),
        description="Apps the teacher demonstrates.",
    )
    undemonstrated: tuple[str, ...] = Field(("clinic", "parcels"), description="Apps that RL alone trains on.")
    unseen: tuple[str, ...] = Field(("garage",), description="Apps kept for evaluation.")
    undemonstrated_kinds: tuple[str, ...] = Field(
        ("find_lookup", "conditional"), description="Task kinds that RL alone trains on, in demonstrated apps."
    )
    num_train: int = Field(12_000, ge=1, description="Tasks the teacher demonstrates.")
    num_heldout: int = Field(1024, ge=1, description="Tasks of demonstrated apps and kinds, on unseen values.")
    num_undemonstrated: int = Field(8192, ge=1, description="RL tasks of undemonstrated apps and kinds.")
    num_undemonstrated_heldout: int = Field(1024, ge=1, description="The same, on unseen values.")
    num_unseen_domain: int = Field(512, ge=1, description="Tasks of the unseen apps, on unseen values.")
    num_documents: int = Field(3000, ge=0, description="Pre-training documents about the worlds.")
    documents_weight: float = Field(1.0, ge=0, description="Their weight among the data sources; 0 leaves them out.")
    share_renamed: float = Field(0.8, ge=0, le=1, description="Share of training tasks whose app is renamed.")
    num_tools: tuple[int, int] = Field(
        (2, 3), description="Fewest and most tools declared; at least one of them is not needed."
    )
    fault_rate: float = Field(0.03, ge=0, le=1, description="Chance that a call meets a temporary fault.")
    sloppiness: float = Field(0.1, ge=0, le=1, description="Share of demonstrations in which the teacher errs.")

    @model_validator(mode="after")
    def _apps_are_apart(self) -> WorldsConfig:
        names = [*self.demonstrated, *self.undemonstrated, *self.unseen]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"an app is demonstrated, undemonstrated or unseen, not two of them: {', '.join(twice)}")
        for key, named, known in (
            ("demonstrated, undemonstrated and unseen", names, APPS),
            ("undemonstrated_kinds", self.undemonstrated_kinds, KINDS),
        ):
            if unknown := [name for name in named if name not in known]:
                raise ValueError(f"{key}: there is no {unknown[0]!r}, there are {', '.join(known)}")
        if not self.demonstrated or not self.unseen:
            raise ValueError("demonstrated and unseen name at least one app each")
        if len(set(self.undemonstrated_kinds)) == len(KINDS):
            raise ValueError("undemonstrated_kinds leaves no kind to demonstrate")
        if not (self.undemonstrated or self.undemonstrated_kinds):
            raise ValueError("undemonstrated and undemonstrated_kinds are both empty: RL would have no task of its own")
        if not 1 <= self.num_tools[0] <= self.num_tools[1]:
            raise ValueError(f"num_tools is (fewest, most), got {self.num_tools}")
        return self

    def num_tasks(self, split: str) -> int:
        """How many tasks a split has. Raises ValueError for an unknown split."""
        if split not in SPLITS:
            raise ValueError(f"no split called {split!r}; there are {', '.join(SPLITS)}")
        return int(getattr(self, f"num_{split}"))
