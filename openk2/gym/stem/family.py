"""The environment of STEM problems, generated or from files, and the family's record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from openk2.gym.family import Family
from openk2.gym.question import QuestionEnv
from openk2.gym.single_turn import Questions
from openk2.gym.stem import files as problem_files
from openk2.gym.stem import judges
from openk2.gym.stem.config import StemConfig
from openk2.gym.stem.grade import verify
from openk2.gym.stem.topics import KINDS, TOPIC_OF
from openk2.schema import Message, Observation, Task


class StemEnv(QuestionEnv):
    """Problems with one exact answer; the reply is judged by ``grade.verify``.

    With ``files``, the problems are those of the files (see ``files.read``), else generated ones.
    """

    def __init__(self, config: StemConfig | None = None, *, files: Sequence[Path | str] = ()) -> None:
        """Raises ValueError for a bad row of a file, and when math-verify is missing."""
        judges.shared()
        self._config = config or StemConfig()
        self._of_files = problem_files.read(files) if files else None
        self._questions = Questions("stem", {kind: KINDS[kind] for kind in self._config.kinds}, self._config)
        super().__init__("stem", self._problems, verify)

    def _problems(self, split: str) -> Sequence[Task]:
        if self._of_files is None:
            return [replace(task, tags=(TOPIC_OF[task.kind], task.kind)) for task in self._questions.tasks(split)]
        if split not in ("train", "heldout"):
            raise ValueError(f'no split "{split}" in stem: choose "train" or "heldout"')
        return [task for task in self._of_files if task.split == split]


def _gold(task: Task, observation: Observation, rng: Random) -> list[Message]:
    return [Message("assistant", rf"\boxed{{{task.payload['answer']}}}")]


def _guess(task: Task, observation: Observation, rng: Random) -> list[Message]:
    """Small numbers, which are the likeliest, in the form asked for."""
    one, two, three = (rng.randint(-10, 30) for _ in range(3))
    size = len(task.payload["names"])
    answer = {
        "value": rng.choice(
            (str(abs(one)), f"{abs(one) % 9 + 1}/{abs(two) + 10}", rf"{abs(one)}\sqrt{{{abs(two)}}}", rf"{abs(one)}\pi")
        ),
        "tuple": f"({', '.join(map(str, (one, two, three)[:size]))})",
        "set": rf"\{{{one}, {two}\}}",
        "interval": f"[{min(one, two)}, {max(one, two)})",
    }[task.payload["form"]]
    return [Message("assistant", rf"\boxed{{{answer}}}")]


FAMILY = Family("stem", "mathematics, physics and chemistry with one exact answer", StemEnv, _gold, _guess, chance=0.02)
