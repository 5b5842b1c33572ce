"""Families of generated questions: drawn by kind and level, split by content, judged by one exact answer."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openk2.gym.config import QuestionsConfig
from openk2.gym.question import QuestionEnv, Verifier
from openk2.schema import JSON, Message, Observation, Score, Task

_HELDOUT_SHARE = 0.2
_MOST_REPEATS = 500  # so many draws without a new question: the kind has no more


@dataclass(frozen=True, slots=True)
class Question:
    """What a generator makes.

    ``key`` is the problem without its wording: questions of one key are all in the same split. ``options`` are the
    answers the text offers to choose from; empty where any answer of the kind's form may be right. ``facts`` is what the verifier
    needs beside the answer; it goes into the task's payload.
    """

    text: str
    answer: str
    key: str
    options: tuple[str, ...] = ()
    facts: JSON = field(default_factory=dict)


Generator = Callable[[random.Random, int], Question]
"""Draws a question of one kind at a level 1 to 3."""

Reader = Callable[[str, Mapping[str, Any]], str | None]
"""Reads from a reply, given the task's payload, the answer it commits to; None for none."""


class Questions:
    """The tasks of a family of generated questions. Splits: "train" and "heldout".

    Which split a question is in follows from a hash of its ``key`` alone, so no seed and no wording ever carries a
    problem across.
    """

    def __init__(self, family: str, generators: Mapping[str, Generator], config: QuestionsConfig) -> None:
        self._family, self._generators, self._config = family, generators, config
        self._tasks: dict[str, tuple[Task, ...]] = {}

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of "train" or "heldout", made on first use; kinds and levels take turns.

        A kind that has no more different questions leaves its turns to the others. Raises ValueError for another
        split, and when all kinds together have fewer questions than asked for.
        """
        counts = {"train": self._config.num_train, "heldout": self._config.num_heldout}
        if split not in counts:
            raise ValueError(f'no split "{split}" in {self._family}: choose "train" or "heldout"')
        if split not in self._tasks:
            self._tasks[split] = tuple(self._draw(split, counts[split]))
        return self._tasks[split]

    def _draw(self, split: str, count: int) -> list[Task]:
        cells = [(kind, level) for level in self._config.levels for kind in self._generators]
        rngs = {cell: random.Random(f"{self._config.seed} {split} {cell}") for cell in cells}
        drawn: dict[str, Task] = {}
        while len(drawn) < count:
            if not cells:
                raise ValueError(
                    f"{self._family} has {len(drawn)} different {split} questions of kinds "
                    f"{', '.join(self._generators)} at levels {self._config.levels}, not {count}: ask for fewer"
                )
            for kind, level in tuple(cells):
                task = self._fresh_task(kind, level, split, rngs[kind, level], drawn)
                if task is None:
                    cells.remove((kind, level))
                elif len(drawn) < count:
                    drawn[task.id] = task
        return list(drawn.values())

    def _fresh_task(
        self, kind: str, level: int, split: str, rng: random.Random, drawn: Mapping[str, Task]
    ) -> Task | None:
        for _ in itertools.repeat(None, _MOST_REPEATS):
            question = self._generators[kind](rng, level)
            task_id = f"{self._family}-{kind}-{_hash(question.text):016x}"
            if split_of(question.key) == split and task_id not in drawn:
                payload = {"question": question.text, "answer": question.answer, "options": list(question.options)}
                return Task(
                    task_id,
                    self._family,
                    kind,
                    split,
                    payload | question.facts,
                    tags=(kind,),
                    difficulty=(level - 1) / 2,
                )
        return None


class SingleTurnEnv(QuestionEnv):
    """Generated questions with one right answer each: 1 for it, else 0.

    Parts: ``answered`` (one answer could be read) and ``correct``.
    """

    def __init__(self, family: str, generators: Mapping[str, Generator], read: Reader, config: QuestionsConfig) -> None:
        super().__init__(family, Questions(family, generators, config).tasks, exactly(read))


def right_answer(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    """Says the answer that stands in the task."""
    return [Message("assistant", f"The answer is {task.payload['answer']}.")]


def exactly(read: Reader) -> Verifier:
    """The verifier of an answer that has one form once it is read."""

    async def verify(reply: str, task: Task) -> Score:
        answer = read(reply, task.payload)
        correct = float(answer is not None and answer == task.payload["answer"])
        return Score(correct, {"answered": float(answer is not None), "correct": correct})

    return verify


def split_of(key: str) -> str:
    """The split of a problem, by a hash of its key: a fifth is "heldout", the rest "train"."""
    return "heldout" if _hash(key) < _HELDOUT_SHARE * 2**64 else "train"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
