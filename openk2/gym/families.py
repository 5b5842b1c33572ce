"""What a run takes of a family: environments over the recipe's worlds, tasks by stage, and what the model is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openk2.gym import catalogue
from openk2.gym.config import GymConfig
from openk2.gym.service.env import ServiceEnv
from openk2.gym.tools import ToolEnv
from openk2.gym.writing import family as writing
from openk2.schema import Env, Message, Task
from openk2.worlds.config import SPLITS, WorldsConfig

ALL_DEMONSTRATED = GymConfig()


def make_env(family: str, worlds: WorldsConfig, gym: GymConfig = ALL_DEMONSTRATED) -> Env:
    """A fresh environment of a family, here or at its service; tool worlds are the recipe's.

    Raises ValueError for an unknown one, or a missing package.
    """
    if (url := gym.services.get(family)) is not None:
        return ServiceEnv(url, family)
    return ToolEnv(worlds) if family == "tools" else catalogue.family(family).make()


def tasks(family: str, worlds: WorldsConfig, split: str, gym: GymConfig = ALL_DEMONSTRATED) -> Sequence[Task]:
    """The tasks of a split. ``rl`` names what reinforcement learning trains on in this family.

    Where kinds are left undemonstrated, ``train`` and ``heldout`` hold the others, ``undemonstrated`` and
    ``undemonstrated_heldout`` these. Raises ValueError for a kind that the family does not have.
    """
    left_out = gym.undemonstrated.get(family, ())
    if split == "rl":
        split = "undemonstrated" if family == "tools" or left_out else "train"
    env = make_env(family, worlds)
    if split in SPLITS and family == "tools":
        return env.tasks(split)
    whole = env.tasks({"undemonstrated": "train", "undemonstrated_heldout": "heldout"}.get(split, split))
    if unknown := set(left_out) - (kinds := {task.kind for task in whole}):
        raise ValueError(f"gym.undemonstrated: {family} has no kind {min(unknown)!r}, there are {sorted(kinds)}")
    wanted = split.startswith("undemonstrated")
    return [task for task in whole if (task.kind in left_out) == wanted]


def demonstrations(
    family: str, shown: Sequence[Task], flaw_rate: float = 0.0, *, picked: bool = False
) -> Iterator[list[Message]]:
    """Question and answer of these tasks of a family; of letters, ``flaw_rate`` carry a known flaw.

    ``picked``: of these, those without one.

    Raises ValueError for a family without plain answers.
    """
    if family == "writing":
        yield from writing.demonstrations(shown, flaw_rate, seed=0, picked=picked)
        return
    for task in shown:
        if not {"question", "answer"} <= task.payload.keys():
            raise ValueError(f"sft.questions: {family} has no questions with one plain answer")
        yield [Message("user", task.payload["question"]), Message("assistant", str(task.payload["answer"]))]
