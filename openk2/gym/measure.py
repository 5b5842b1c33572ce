"""How often an agent succeeds in a family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from openk2.gym.agents import play
from openk2.gym.family import Family, Moves
from openk2.schema import Task
from openk2.stats import Estimate, wilson


@dataclass(frozen=True, slots=True)
class Measured:
    """Episodes of one agent: the share that passed, and the mean score."""

    passed: Estimate
    mean: float
    broken: dict[str, int]  # episodes that broke off, by what the environment did
    earned: tuple[str, ...]  # tasks in which it got anything


async def measure(family: Family, moves: Moves, tasks: Sequence[Task]) -> Measured:
    """Play each task once."""
    env = family.make()
    traces = [await play(env, task, moves) for task in tasks]
    scores = [trace.score.total if trace.score is not None else 0.0 for trace in traces]
    return Measured(
        wilson(sum(score == 1 for score in scores), len(tasks)),
        sum(scores) / len(tasks),
        dict(Counter(trace.info["trouble"] for trace in traces if trace.stop_reason == "env_error")),
        tuple(trace.task_id for trace, score in zip(traces, scores, strict=True) if score > 0),
    )
