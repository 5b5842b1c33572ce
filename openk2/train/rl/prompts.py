"""The prompts of each step of reinforcement learning, and why they were chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openk2.gym.curriculum import Choice, Curriculum
from openk2.jobs import jsonl
from openk2.schema import Task


class PromptSource:
    """Pools of tasks by share; within a pool what its curriculum chooses, which follows what groups of rollouts show (K2 §3.2)."""

    def __init__(
        self,
        tasks: Mapping[str, Sequence[Task]],
        shares: Mapping[str, float],
        *,
        most_prompts: int,
        rollouts_per_prompt: int,
        seed: int,
    ) -> None:
        """``most_prompts`` are asked for at once: a pool with fewer tasks is refused with a ValueError."""
        unknown = set(shares) - set(tasks)
        if unknown:
            raise ValueError(f"rl.families names {sorted(unknown)}; there are {sorted(tasks)}")
        self._pools = sorted(shares)
        self._shares = np.array([shares[pool] for pool in self._pools]) / sum(shares.values())
        for pool in self._pools:
            if not tasks[pool]:
                raise ValueError(f"rl.families names {pool!r}, which has no tasks")
            if len(tasks[pool]) < most_prompts:
                raise ValueError(f"{most_prompts} prompts are in flight at once, more than {pool!r} has tasks")
        self._curricula = {pool: Curriculum(tasks[pool], k=rollouts_per_prompt) for pool in self._pools}
        self._pool_of = {task.id: pool for pool in self._pools for task in tasks[pool]}
        self.seed, self.step = seed, 0
        self.choices: list[Choice] = []  # those drawn last

    def draw(self, num_prompts: int) -> list[Task]:
        """The prompts to begin at the next step."""
        rng = np.random.default_rng([self.seed, self.step])
        self.step += 1
        counts = rng.multinomial(num_prompts, self._shares)
        self.choices = [
            choice
            for pool, count in zip(self._pools, counts, strict=True)
            for choice in self._curricula[pool].choose(int(count), rng)
        ]
        return [choice.task for choice in self.choices]

    def learn(self, rewards: Iterable[tuple[Task, Sequence[float]]]) -> None:
        """Take the rewards of the groups that a step learns from; below 0 counts as 0."""
        groups: dict[str, dict[str, list[float]]] = {pool: {} for pool in self._pools}
        for task, group in rewards:
            of_task = groups[self._pool_of[task.id]].setdefault(task.id, [])
            of_task.extend(min(max(reward, 0.0), 1.0) for reward in group)
        for pool, group_of in groups.items():
            self._curricula[pool].learn(group_of)

    def mixed(self) -> dict[str, float]:
        """How likely a group of each kind is to teach, by ``pool/kind``."""
        return {
            f"{pool}/{kind}": mixed
            for pool, curriculum in self._curricula.items()
            for kind, mixed in curriculum.mixed().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """The step number and the curricula."""
        return {"step": self.step, "curricula": {name: it.state_dict() for name, it in self._curricula.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after that step."""
        self.step = state["step"]
        for pool, curriculum in self._curricula.items():
            curriculum.load_state_dict(state["curricula"][pool])


class ChoiceLog(jsonl.Appender):
    """``curriculum.jsonl`` of a stage: the choices of each step. Opening it at step S drops lines after S: they are redone."""

    def __init__(self, folder: Path, *, from_step: int) -> None:
        path = folder / "curriculum.jsonl"
        if path.exists():
            jsonl.write(path, [row for row in jsonl.read(path) if row["step"] <= from_step])
        super().__init__(path)

    def add(self, step: int, choices: Sequence[Choice]) -> None:
        """What a step begins."""
        self.write({"step": step, "choices": [choice.to_json() for choice in choices]})
