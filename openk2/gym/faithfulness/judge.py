"""A small trained judge of sentences: does the context support what each says (K2 §3.2, faithfulness)?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from openk2.gym.faithfulness.features import FEATURES, evidence

WEIGHTS = Path(__file__).with_name("weights.json")


class SupportJudge(Protocol):
    """Says of each sentence how likely the context does not support it."""

    async def unsupported(self, context: str, sentences: Sequence[str]) -> list[float]:
        """One number in [0, 1] for each sentence, in order; over 0.5 is unsupported. Earlier sentences say what "it" is."""
        ...


@dataclass(frozen=True, slots=True)
class Weights:
    """A logistic regression over ``FEATURES``."""

    bias: float
    weights: tuple[float, ...]

    def save(self, path: Path) -> None:
        """Write them as JSON, with the features' names."""
        named = dict(zip(FEATURES, self.weights, strict=True))
        path.write_text(json.dumps({"bias": self.bias, "weights": named}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Weights:
        """Read them. Raises ValueError when they are for other features."""
        data = json.loads(path.read_text(encoding="utf-8"))
        if tuple(data["weights"]) != FEATURES:
            raise ValueError(f"{path}: weights for {', '.join(data['weights'])}; this judge has {', '.join(FEATURES)}")
        return cls(data["bias"], tuple(data["weights"].values()))


class TrainedJudge:
    """Features of ``features.py``, weighed by what ``train.py`` fitted. Deterministic; about a millisecond a sentence."""

    def __init__(self, weights: Weights | None = None) -> None:
        """``weights`` are the package's own where none are given."""
        self._weights = weights or _packaged()

    async def unsupported(self, context: str, sentences: Sequence[str]) -> list[float]:
        """The probability, by the regression, that a sentence says what the context does not."""
        read = evidence(context)
        reader = read.reader()
        return [self.weigh(read.features(reader.clauses(sentence))) for sentence in sentences]

    def weigh(self, features: np.ndarray) -> float:
        """The probability for one sentence's features."""
        score = self._weights.bias + float(features @ np.array(self._weights.weights))
        return float(1 / (1 + np.exp(-np.clip(score, -500, 500))))


@cache
def _packaged() -> Weights:
    return Weights.load(WEIGHTS)
