"""Which tasks to practise: neither out of reach nor done, and each tag often enough (K2 §3.2, moderate difficulty, coverage)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openk2.schema import JSON, Task

Array = NDArray[np.float64]

FLOOR = 0.1  # what a task weighs that seems to teach nothing: the policy moves, and estimates err
PRIOR = 4.0  # rollouts that a kind's rate counts for in the estimate of one of its tasks
KIND_MEMORY = 0.9  # how much of what was seen of a kind still counts after another of its groups
TASK_MEMORY = 0.98  # and of a task after another step
THIN = 0.5  # a tag is thin that was chosen less than this part of an even share
TOP_UP = 4  # one choice in so many may go to a thin tag


@dataclass(frozen=True, slots=True)
class Choice:
    """A task to practise and why: estimates of the current policy, made before its rollouts.

    ``rate``: chance that one rollout passes; ``pass_at_k``: that one of k does; ``mixed``: that some do and some do not,
    without which a group teaches nothing. ``thin`` names the tag that was topped up.
    """

    task: Task
    rate: float
    pass_at_k: float
    mixed: float
    why: Literal["moderate", "thin"]
    thin: str = ""

    def to_json(self) -> JSON:
        """As it is logged."""
        out: JSON = {"task": self.task.id, "why": self.why} | ({"tag": self.thin} if self.thin else {})
        return out | {name: round(getattr(self, name), 4) for name in ("rate", "pass_at_k", "mixed")}


class Curriculum:
    """Chooses among tasks by what groups of ``k`` rollouts of the current policy have shown.

    A task's pass rate has a Beta posterior around its kind's rate; both forget, as the policy moves. A reward between 0 and 1
    counts as that much of a pass.
    """

    def __init__(self, tasks: Sequence[Task], *, k: int) -> None:
        if not tasks:
            raise ValueError("a curriculum needs tasks to choose from")
        if k < 2:
            raise ValueError(f"groups of {k} show no difference: k is 2 at least")
        self.tasks, self.k = list(tasks), k
        self._place = {task.id: place for place, task in enumerate(self.tasks)}
        self.kinds = sorted({task.kind for task in self.tasks})
        kinds = {kind: place for place, kind in enumerate(self.kinds)}
        self._kind_T = np.array([kinds[task.kind] for task in self.tasks])
        self._passes_T, self._tries_T, self._seen_T = (np.zeros(len(self.tasks)) for _ in range(3))
        self._passes_K, self._tries_K = np.zeros(len(kinds)), np.zeros(len(kinds))
        self._step = 0
        self._members: dict[str, list[int]] = {}
        for place, task in enumerate(self.tasks):
            for tag in {task.kind, *task.tags}:
                self._members.setdefault(tag, []).append(place)
        self._chosen = dict.fromkeys(sorted(self._members), 0.0)

    def choose(self, num: int, rng: np.random.Generator) -> list[Choice]:
        """``num`` different tasks: by weight, the thinnest tags first. Raises ValueError where there are fewer."""
        if num > len(self.tasks):
            raise ValueError(f"{num} tasks are asked for, of {len(self.tasks)}")
        rate_T, pass_at_k_T, mixed_T = self._estimates()
        # The largest keys are a draw without replacement, each task by its weight.
        keys_T = np.log(rng.random(len(self.tasks))) / (FLOOR + mixed_T)
        taken: dict[int, str] = {}
        for tag in self._thin()[: num // TOP_UP]:
            left = [place for place in self._members[tag] if place not in taken]
            if left:
                taken[left[int(np.argmax(keys_T[left]))]] = tag
        for place in np.argsort(-keys_T, kind="stable"):
            if len(taken) == num:
                break
            taken.setdefault(int(place), "")
        for place in taken:
            for tag in {self.tasks[place].kind, *self.tasks[place].tags}:
                self._chosen[tag] += 1
        return [
            Choice(
                self.tasks[place], float(rate_T[place]), float(pass_at_k_T[place]), float(mixed_T[place]),
                "thin" if tag else "moderate", tag,
            )
            for place, tag in taken.items()
        ]  # fmt: skip

    def learn(self, rewards: Mapping[str, Sequence[float]]) -> None:
        """Take the rewards of groups, by task. Raises ValueError for one outside [0, 1] and for an unknown task."""
        for name, group in rewards.items():
            if name not in self._place:
                raise ValueError(f"task {name} is none of this curriculum's")
            if not all(0 <= reward <= 1 for reward in group):
                raise ValueError(f"task {name}: rewards are between 0 and 1, got {list(group)}")
        self._step += 1
        for name, group in rewards.items():
            place = self._place[name]
            kept = TASK_MEMORY ** (self._step - self._seen_T[place])
            self._passes_T[place] = kept * self._passes_T[place] + sum(group)
            self._tries_T[place] = kept * self._tries_T[place] + len(group)
            self._seen_T[place] = self._step
            kind = self._kind_T[place]
            self._passes_K[kind] = KIND_MEMORY * self._passes_K[kind] + sum(group)
            self._tries_K[kind] = KIND_MEMORY * self._tries_K[kind] + len(group)

    def mixed(self) -> dict[str, float]:
        """By kind, how likely a group of a task is to teach."""
        mixed_T = self._estimates()[2]
        return {kind: float(mixed_T[self._kind_T == place].mean()) for place, kind in enumerate(self.kinds)}

    def _estimates(self) -> tuple[Array, Array, Array]:
        """Of each task: its rate, and over the posterior the chances that some of k rollouts pass, and that only some do."""
        rate_K = (self._passes_K + 1) / (self._tries_K + 2)
        kept_T = TASK_MEMORY ** (self._step - self._seen_T)
        a_T = PRIOR * rate_K[self._kind_T] + kept_T * self._passes_T
        b_T = PRIOR * (1 - rate_K[self._kind_T]) + kept_T * (self._tries_T - self._passes_T)
        all_fail_T, all_pass_T = np.ones_like(a_T), np.ones_like(a_T)
        for i in range(self.k):
            all_fail_T *= (b_T + i) / (a_T + b_T + i)
            all_pass_T *= (a_T + i) / (a_T + b_T + i)
        return a_T / (a_T + b_T), 1 - all_fail_T, 1 - all_fail_T - all_pass_T

    def _thin(self) -> list[str]:
        """Tags chosen too seldom, the least first."""
        even = sum(self._chosen.values()) / len(self._chosen)
        return sorted((tag for tag, times in self._chosen.items() if times < THIN * even), key=self._chosen.__getitem__)

    def state_dict(self) -> dict[str, Any]:
        """What was seen and chosen, as plain JSON."""
        seen = np.flatnonzero(self._seen_T)
        return {
            "step": self._step,
            "tasks": {
                self.tasks[i].id: [self._passes_T[i].item(), self._tries_T[i].item(), self._seen_T[i].item()]
                for i in seen
            },
            "kinds": {kind: [self._passes_K[i].item(), self._tries_K[i].item()] for i, kind in enumerate(self.kinds)},
            "chosen": dict(self._chosen),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after that. Tasks and tags that are no more are forgotten."""
        self._step = state["step"]
        for name, (passes, tries, seen) in state["tasks"].items():
            if (place := self._place.get(name)) is not None:
                self._passes_T[place], self._tries_T[place], self._seen_T[place] = passes, tries, seen
        for place, kind in enumerate(self.kinds):
            self._passes_K[place], self._tries_K[place] = state["kinds"].get(kind, (0.0, 0.0))
        self._chosen |= {tag: times for tag, times in state["chosen"].items() if tag in self._chosen}
