"""What a judge of groups is, and how it fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal, Protocol

from openk2.schema import Task

JudgeTrouble = Literal["unavailable", "timed_out", "unreadable"]
Pairing = tuple[str, str]


class GroupJudge(Protocol):
    """Rewards the answers to one task by comparing them."""

    async def rewards(self, task: Task, replies: Sequence[str]) -> list[float]:
        """One number in [0, 1] for each reply, in order. Raises JudgeFailedError when there is no verdict."""
        ...


class JudgeFailedError(Exception):
    """A group got no rewards; ``reason`` names why."""

    def __init__(self, reason: JudgeTrouble, told: str) -> None:
        super().__init__(reason, told)  # as it is made again in another process
        self.reason, self.told = reason, told

    def __str__(self) -> str:
        return f"{self.reason}: {self.told}"


@asynccontextmanager
async def in_time(seconds: float) -> AsyncIterator[None]:
    """Turn what a model raises, alone or from a task group, and time that is over, into a JudgeFailedError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except JudgeFailedError:
        raise
    except Exception as error:  # whatever a model raises, it was no verdict
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if isinstance(first, TimeoutError):
            raise JudgeFailedError("timed_out", str(first) or f"no verdict within {seconds:g} s") from error
        raise JudgeFailedError("unavailable", f"{type(first).__name__}: {first}") from error


def mean_scores(replies: Sequence[str], better: Mapping[Pairing, float]) -> list[float]:
    """Each reply's mean over the replies it was compared with; ``better`` says how likely the first of two texts is.

    Equal replies tie with each other. Over all pairs the mean of a group is 1/2; who meets nobody has 1/2.
    """
    copies = Counter(replies)
    won = {reply: 0.5 * (count - 1) for reply, count in copies.items()}
    met = {reply: float(count - 1) for reply, count in copies.items()}
    for (first, second), value in better.items():
        for reply, other, share in ((first, second, value), (second, first, 1 - value)):
            won[reply] += copies[other] * share
            met[reply] += copies[other]
    # A sum of shares can pass its number by a rounding.
    return [min(won[reply] / met[reply], 1.0) if met[reply] else 0.5 for reply in replies]
