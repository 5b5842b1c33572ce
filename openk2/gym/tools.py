"""Tool tasks as an environment: the worlds behind the Env contract (K2 §3.1, §3.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Literal

from openk2.gym.family import Family
from openk2.gym.tool_agents import call_at_random, calls_of
from openk2.schema import Message, Observation, Score, Task, Trace
from openk2.worlds.config import SPLITS, WorldsConfig
from openk2.worlds.judge import judge
from openk2.worlds.simulator import Simulator
from openk2.worlds.tasks import Split
from openk2.worlds.teacher import ScriptedTeacher


class ToolEnv:
    """One episode at a time of a tool task: calls are executed, a message without calls is the final answer."""

    resumable: Literal["snapshot"] = "snapshot"

    def __init__(self, config: WorldsConfig) -> None:
        self._config = config
        self._task: Task | None = None
        self._world: Simulator | None = None
        self._seed = 0
        self._answer = ""

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of ``train``, ``heldout``, ``undemonstrated``, ``undemonstrated_heldout`` or ``unseen_domain``.

        Made when indexed. Raises ValueError for another split.
        """
        return Split(self._config, split)

    async def reset(self, task: Task, seed: int) -> Observation:
        """Begin: the user's request and the declared tools. ``seed`` decides which calls meet a fault."""
        await self.close()
        self._task, self._seed, self._answer = task, seed, ""
        self._world = Simulator(task.payload, seed, self._config.fault_rate)
        return Observation([Message("user", task.payload["request"])], self._world.tools)

    async def step(self, message: Message) -> Observation:
        """Execute the message's calls in order; without calls it is the answer, and the episode ends."""
        world = self.world
        if not message.tool_calls:
            self._answer = message.content
            return Observation([], world.tools, terminated=True)
        results = [call.answered(world.run(call)) for call in message.tool_calls]
        return Observation(results, world.tools)

    async def score(self, trace: Trace) -> Score:
        """Judge the episode just played by the records, the call log and the answer as they happened here."""
        assert self._task is not None, "reset comes before score"
        assert self._task.rubric is not None, "a tool task has a rubric"
        return judge(self._task.rubric, self.world.initial, self.world.rows(), self.world.log, self._answer)

    async def close(self) -> None:
        """Free the episode's database."""
        if self._world is not None:
            self._world.close()
            self._world = None

    @property
    def world(self) -> Simulator:
        """The episode's world: its records, log and tools, to look at."""
        assert self._world is not None, "reset comes first"
        return self._world

    def snapshot(self) -> bytes:
        """The whole episode: task, seed, records, log, answer."""
        assert self._task is not None, "reset comes first"
        whole = {
            "task": self._task.to_json(),
            "seed": self._seed,
            "answer": self._answer,
            "world": self.world.snapshot(),
        }
        return json.dumps(whole).encode()

    def restore(self, state: bytes) -> None:
        """Go back to a snapshot, of this or another ToolEnv of the same config."""
        whole = json.loads(state)
        if self._world is not None:
            self._world.close()
        self._task, self._seed, self._answer = Task.from_json(whole["task"]), whole["seed"], whole["answer"]
        self._world = Simulator(self._task.payload, self._seed, self._config.fault_rate)
        self._world.restore(whole["world"])


def _carry_out(task: Task, observation: Observation, rng: Random) -> list[Message]:
    answer = ScriptedTeacher(task, seed=0).answer
    return [*calls_of(task.payload["plan"]), Message("assistant", answer)]


FAMILY = Family(
    "tools", "short tool tasks over ten apps", partial(ToolEnv, WorldsConfig(fault_rate=0)), _carry_out, call_at_random,
    chance=0.0, splits=SPLITS,
)  # fmt: skip
