"""An environment of single questions: one is asked, the assistant answers in text, an exact check decides."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from openk2.gym.config import QuestionsConfig
from openk2.schema import Message, Observation, Score, Task, Trace

_HELDOUT_SHARE = 0.2
_MOST_REPEATS = 500  # so many draws without a new question: the kind has no more


@dataclass(frozen=True, slots=True)
class Question:
    """What a generator makes.

    ``key`` is the problem without its wording: questions of one key are all in the same split. ``options`` are the
    answers the text offers to choose from; empty where any number may be the answer.
    """

    text: str
    answer: str
    key: str
    options: tuple[str, ...] = ()


Generator = Callable[[random.Random, int], Question]
"""Draws a question of one kind at a level 1 to 3."""

Reader = Callable[[str, Mapping[str, Any]], str | None]
"""Reads from a reply, given the task's payload, the answer it commits to; None for none."""


class SingleTurnEnv:
    """Questions with one right answer each (an ``Env``). Splits: "train" and "heldout".

    Which split a question is in follows from a hash of its ``key`` alone, so no seed and no wording ever carries a
    problem across. An episode is a function of the task and the reply: the seed of ``reset`` changes nothing.
    """

    resumable: Literal["snapshot", "replay", "none"] = "replay"

    def __init__(self, family: str, generators: Mapping[str, Generator], read: Reader, config: QuestionsConfig) -> None:
        self.family = family
        self._generators = generators
        self._read = read
        self._config = config
        self._tasks: dict[str, tuple[Task, ...]] = {}
        self._task: Task | None = None
        self._reply: Message | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of "train" or "heldout", made on first use; kinds and levels take turns.

        A kind that has no more different questions leaves its turns to the others. Raises ValueError for another
        split, and when all kinds together have fewer questions than asked for.
        """
        counts = {"train": self._config.num_train, "heldout": self._config.num_heldout}
        if split not in counts:
            raise ValueError(f'no split "{split}" in {self.family}: choose "train" or "heldout"')
        if split not in self._tasks:
            self._tasks[split] = tuple(self._draw(split, counts[split]))
        return self._tasks[split]

    async def reset(self, task: Task, seed: int) -> Observation:
        """Ask the task's question. Raises ValueError for a task of another family."""
        if task.family != self.family:
            raise ValueError(f'task "{task.id}" is of family "{task.family}", not "{self.family}"')
        self._task, self._reply = task, None
        return Observation([Message("user", task.payload["question"])], [])

    async def step(self, message: Message) -> Observation:
        """Take the reply, which ends the episode. Raises ValueError when no question is open."""
        if self._task is None or self._reply is not None:
            raise ValueError("no question is open: call reset first")
        self._reply = message
        return Observation([], [], terminated=True)

    async def score(self, trace: Trace) -> Score:
        """1 for the right answer, else 0. Parts: ``answered`` (one answer could be read) and ``correct``.

        Judges the reply that ``step`` was given. A reply with tool calls, or none at all, is no answer.
        """
        if self._task is None:
            raise ValueError("no episode to score: call reset first")
        payload, reply = self._task.payload, self._reply
        read = None if reply is None or reply.tool_calls else self._read(reply.content, payload)
        correct = float(read is not None and read == payload["answer"])
        return Score(correct, {"answered": float(read is not None), "correct": correct})

    async def close(self) -> None:
        """Forget the episode."""
        self._task = self._reply = None

    def snapshot(self) -> bytes:
        """Raises ValueError: the episode is resumed by replay."""
        raise ValueError(f"{self.family} episodes have no snapshot: they are resumed by replay")

    def restore(self, state: bytes) -> None:
        """Raises ValueError: the episode is resumed by replay."""
        raise ValueError(f"{self.family} episodes have no snapshot: they are resumed by replay")

    def _draw(self, split: str, count: int) -> list[Task]:
        cells = [(kind, level) for level in self._config.levels for kind in self._generators]
        rngs = {cell: random.Random(f"{self._config.seed} {split} {cell}") for cell in cells}
        drawn: dict[str, Task] = {}
        while len(drawn) < count:
            if not cells:
                raise ValueError(
                    f"{self.family} has {len(drawn)} different {split} questions of kinds "
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
            task_id = f"{self.family}-{kind}-{_hash(question.text):016x}"
            if split_of(question.key) == split and task_id not in drawn:
                payload = {"question": question.text, "answer": question.answer, "options": list(question.options)}
                return Task(task_id, self.family, kind, split, payload, difficulty=(level - 1) / 2)
        return None


def split_of(key: str) -> str:
    """The split of a problem, by a hash of its key: a fifth is "heldout", the rest "train"."""
    return "heldout" if _hash(key) < _HELDOUT_SHARE * 2**64 else "train"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
