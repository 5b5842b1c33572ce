"""What a run takes of a family: environments over the recipe's worlds, tasks by stage, and what the model is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openk2.gym import catalogue
from openk2.gym.tools import ToolEnv
from openk2.schema import Env, Message, Task
from openk2.worlds.config import WorldsConfig


def make_env(family: str, worlds: WorldsConfig) -> Env:
    """A fresh environment of a family; tool worlds are the recipe's. Raises ValueError for an unknown one, or a missing package."""
    return ToolEnv(worlds) if family == "tools" else catalogue.family(family).make()


def tasks(family: str, worlds: WorldsConfig, split: str) -> Sequence[Task]:
    """The tasks of a split. ``rl`` names what reinforcement learning trains on in this family."""
    if split == "rl":
        split = "undemonstrated" if family == "tools" else "train"
    return make_env(family, worlds).tasks(split)


def demonstrations(worlds: WorldsConfig, family: str, limit: int) -> Iterator[list[Message]]:
    """Question and answer of the first ``limit`` training tasks. Raises ValueError for a family without plain answers."""
    for task in tasks(family, worlds, "train")[:limit]:
        if not {"question", "answer"} <= task.payload.keys():
            raise ValueError(f"sft.questions: {family} has no questions with one plain answer")
        yield [Message("user", task.payload["question"]), Message("assistant", str(task.payload["answer"]))]
