"""The yield funnel: how many records entered each stage, and why the others left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Funnel:
    """Counts by stage (what was kept) and by stage and reason (what was not)."""

    kept: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)

    def keep(self, stage: str) -> None:
        """Count a record that passed ``stage``."""
        self.kept[stage] += 1

    def reject(self, stage: str, reason: str) -> None:
        """Count a record that ``stage`` turned away."""
        self.rejected.setdefault(stage, Counter())[reason] += 1

    def to_json(self) -> dict[str, Any]:
        """``{stage: {"kept", "rejected", "reasons": {reason: count}}}``, most frequent reason first."""
        out: dict[str, Any] = {}
        for stage in dict.fromkeys([*self.kept, *self.rejected]):
            reasons = self.rejected.get(stage, Counter())
            out[stage] = {
                "kept": self.kept[stage],
                "rejected": reasons.total(),
                "reasons": dict(reasons.most_common()),
            }
        return out
