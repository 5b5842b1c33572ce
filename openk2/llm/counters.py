"""What an endpoint was asked and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from openk2.schema import JSON


@dataclass
class Counters:
    """Calls end as answered, cached or failed; ``asked`` are requests sent, repeats (by reason) included."""

    asked: int = 0
    answered: int = 0
    cached: int = 0
    failed: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def to_json(self) -> JSON:
        """Plain JSON, the most frequent reason first."""
        return {**vars(self), "retried": dict(self.retried.most_common())}
