"""reasoning-gym in a guest process."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import reasoning_gym
from reasoning_gym.factory import DATASETS


class Guest:
    """Makes datasets and scores answers; a dataset is made once."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def names(self) -> list[str]:
        """All datasets of the installed version."""
        return sorted(DATASETS)

    def version(self) -> str:
        """Of the installed package."""
        return version("reasoning-gym")

    def entries(self, name: str, seed: int, size: int, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Questions and their own answers, in order."""
        dataset = self._dataset(name, seed, size, options)
        return [{"question": entry["question"], "answer": entry["answer"]} for entry in dataset]

    def score(
        self, name: str, seed: int, size: int, options: dict[str, Any], index: int, question: str, answer: str | None
    ) -> float:
        """The dataset's own score of an answer. Raises ValueError where this version makes another question."""
        dataset = self._dataset(name, seed, size, options)
        entry = dataset[index]
        if entry["question"] != question:
            raise ValueError(f"the reasoning-gym installed now asks something else at {name}[{index}], seed {seed}")
        return float(dataset.score_answer(answer=answer, entry=entry))

    def _dataset(self, name: str, seed: int, size: int, options: dict[str, Any]) -> Any:
        key = repr((name, seed, size, sorted(options.items())))
        if key not in self._made:
            self._made[key] = reasoning_gym.create_dataset(name, seed=seed, size=size, **options)
        return self._made[key]
