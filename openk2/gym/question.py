"""The episode of one question: it is asked, the assistant replies in text, a verifier decides."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from openk2.schema import Message, Observation, Score, Task, Trace

MOST_CHARACTERS = 100_000  # of a reply that is read, as it is and with signs that stand for many written out

Verifier = Callable[[str, Task], Awaitable[Score]]
"""Scores a reply's text. Whatever the text is, it neither raises nor takes long: the text comes from an adversary."""


class QuestionEnv:
    """Tasks whose payload has a ``question`` (an ``Env``). An episode is a function of the task and the reply alone."""

    resumable: Literal["snapshot", "replay", "none"] = "replay"

    def __init__(
        self,
        family: str,
        tasks: Callable[[str], Sequence[Task]],
        verify: Verifier,
        *,
        most_characters: int = MOST_CHARACTERS,
    ) -> None:
        """``tasks`` gives those of a split, or raises ValueError for a split there is none of."""
        self.family, self._most_characters = family, most_characters
        self._tasks_of, self._verify = tasks, verify
        self._task: Task | None = None
        self._reply: Message | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, in a fixed order. Raises ValueError for a split there is none of."""
        return self._tasks_of(split)

    async def reset(self, task: Task, seed: int) -> Observation:
        """Ask the task's question; ``seed`` changes nothing. Raises ValueError for a task of another family."""
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
        """What the verifier says of the reply that ``step`` was given.

        A reply with tool calls, or none at all, is judged as an empty one. One that is too long is not judged: its score says
        ``too_long``.
        """
        if self._task is None:
            raise ValueError("no episode to score: call reset first")
        reply = self._reply
        text = "" if reply is None or reply.tool_calls else reply.content
        if len(text) > MOST_CHARACTERS or len(unicodedata.normalize("NFKC", text)) > self._most_characters:
            return Score(0.0, {"too_long": 1.0})
        return await self._verify(text, self._task)

    async def close(self) -> None:
        """Forget the episode."""
        self._task = self._reply = None

    def snapshot(self) -> bytes:
        """Raises ValueError: the episode is resumed by replay."""
        raise ValueError(f"{self.family} episodes have no snapshot: they are resumed by replay")

    def restore(self, state: bytes) -> None:
        """Raises ValueError: the episode is resumed by replay."""
        raise ValueError(f"{self.family} episodes have no snapshot: they are resumed by replay")
