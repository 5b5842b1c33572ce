"""The families by name: their environments, their tasks, and what of them the model is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openk2.gym.logic import LogicEnv
from openk2.gym.math import ArithmeticEnv
from openk2.gym.tools import ToolEnv
from openk2.schema import Env, Message, Task
from openk2.worlds.config import WorldsConfig

FAMILIES = ("tools", "math", "logic")


def make_env(family: str, worlds: WorldsConfig) -> Env:
    """A fresh environment of a family. Raises ValueError for an unknown one."""
    if family == "tools":
        return ToolEnv(worlds)
    if family == "math":
        return ArithmeticEnv()
    if family == "logic":
        return LogicEnv()
    raise ValueError(f"no task family called {family!r}; there are {', '.join(FAMILIES)}")


def tasks(family: str, worlds: WorldsConfig, split: str) -> Sequence[Task]:
    """The tasks of a split. ``rl`` names what reinforcement learning trains on in this family."""
    if split == "rl":
        split = "undemonstrated" if family == "tools" else "train"
    return make_env(family, worlds).tasks(split)


def demonstrations(worlds: WorldsConfig, family: str, limit: int) -> Iterator[list[Message]]:
    """Question and answer of the first ``limit`` training tasks of a single-turn family."""
    for task in tasks(family, worlds, "train")[:limit]:
        yield [Message("user", task.payload["question"]), Message("assistant", str(task.payload["answer"]))]
