"""reasoning-gym in a guest process."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import reasoning_gym
from reasoning_gym.factory import DATASETS


class Guest:
    """Makes datasets and scores answers; a dataset is made once."""

    def __init__(self) -> None:
        self._datasets: dict[str, Any] = {}
        self._entries: dict[str, dict[int, Any]] = {}

    def names(self) -> list[str]:
        """All datasets of the installed version."""
        return sorted(DATASETS)

    def version(self) -> str:
        """Of the installed package."""
        return version("reasoning-gym")

    def entries(self, **source: Any) -> list[dict[str, Any]]:
        """Questions and their own answers, in order. ``source``: name, seed, size, options."""
        made = [self._entry(index, source) for index in range(source["size"])]
        return [{"question": entry["question"], "answer": entry["answer"]} for entry in made]

    def prepare(self, index: int, question: str, **source: Any) -> None:
        """Make one entry, which can take longer than scoring. Raises ValueError where this version asks something else."""
        if self._entry(index, source)["question"] != question:
            raise ValueError(f"the reasoning-gym installed now asks something else at {source['name']}[{index}]")

    def score(self, index: int, answer: str | None, **source: Any) -> float:
        """The dataset's own score of an answer."""
        entry = self._entry(index, source)
        return float(self._datasets[repr(source)].score_answer(answer=answer, entry=entry))

    def _entry(self, index: int, source: dict[str, Any]) -> Any:
        key = repr(source)
        if key not in self._datasets:
            name, options = source["name"], source["options"]
            self._datasets[key] = reasoning_gym.create_dataset(
                name, seed=source["seed"], size=source["size"], **options
            )
        entries = self._entries.setdefault(key, {})
        if index not in entries:
            entries[index] = self._datasets[key][index]
        return entries[index]
