"""What a family of tasks is, for everything that lists, plays, measures or exports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from openk2.schema import Env, Message, Observation, Task

Moves = Callable[[Task, Observation, Random], Sequence[Message]]
"""An agent by rule: all it will say and call in an episode, given the task and what ``reset`` showed."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family of tasks with verifiable reward (K2 §3.2).

    ``make`` gives a fresh environment with the family's defaults; each takes any task of the family. ``gold`` earns 1 in every
    task. ``guess`` answers at random in the right form, knowing what the task shows and no more; ``chance`` is the largest share of
    tasks that this may win. ``splits`` are those that ``tasks`` knows.
    """

    name: str
    about: str
    make: Callable[[], Env]
    gold: Moves
    guess: Moves
    chance: float
    splits: tuple[str, ...] = ("train", "heldout")
