"""Tasks that really run, as an environment: programs, files, repositories and databases in a sandbox (K2 §3.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Literal

from openk2.gym.family import Family as GymFamily
from openk2.gym.tool_agents import call_at_random, calls_of
from openk2.sandbox.once import Runner
from openk2.schema import Message, Observation, Score, Task, Trace
from openk2.worlds.execution.tasks import FAMILIES, Family, make_task
from openk2.worlds.execution.world import BoxWorld


class ExecutionEnv:
    """One episode at a time; a message without calls is the final answer."""

    resumable: Literal["snapshot"] = "snapshot"

    def __init__(
        self, families: Sequence[Family], num_tasks: int, *, seed: int = 0, pool: Runner | None = None
    ) -> None:
        """``num_tasks`` of each family. ``pool`` has bwraps ready; without one each run starts its own."""
        self._families, self._num_tasks, self._seed, self._pool = families, num_tasks, seed, pool
        self._task: Task | None = None
        self._world: BoxWorld | None = None
        self._answer = ""

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split: any name, which seeds them; families take turns. They have not been through the gates."""
        return [
            make_task(family, split, index, seed=self._seed)
            for index in range(self._num_tasks)
            for family in self._families
        ]

    async def reset(self, task: Task, seed: int) -> Observation:
        """Lay out the box and show the request. ``seed`` changes nothing: these worlds are real."""
        self._task, self._answer = task, ""
        self._world = BoxWorld(task.payload, pool=self._pool)
        await self._world.start()
        return Observation([Message("user", task.payload["request"])], self._world.tools)

    async def step(self, message: Message) -> Observation:
        """Execute the message's calls in order; without calls it is the answer, and the episode ends."""
        world = self.world
        if not message.tool_calls:
            self._answer = message.content
            return Observation([], world.tools, terminated=True)
        results = [call.answered(await world.run(call)) for call in message.tool_calls]
        return Observation(results, world.tools)

    async def score(self, trace: Trace) -> Score:
        """Judge the episode just played in a fresh box, by its files, the call log and the answer."""
        assert self._task is not None, "reset comes before score"
        assert self._task.rubric is not None, "an execution task has a rubric"
        return await self.world.score(self._task.rubric, self._answer)

    async def close(self) -> None:
        """Forget the episode's box."""
        self._world = None

    @property
    def world(self) -> BoxWorld:
        """The episode's world, to look at."""
        assert self._world is not None, "reset comes first"
        return self._world

    def snapshot(self) -> bytes:
        """The whole episode: task, files, log."""
        assert self._task is not None, "reset comes first"
        return json.dumps(
            {"task": self._task.to_json(), "world": self.world.snapshot(), "answer": self._answer}
        ).encode()

    def restore(self, state: bytes) -> None:
        """Go back to a snapshot, of this or another ExecutionEnv."""
        whole = json.loads(state)
        self._task, self._answer = Task.from_json(whole["task"]), whole["answer"]
        self._world = BoxWorld(self._task.payload, pool=self._pool)
        self._world.restore(whole["world"])


def _carry_out(task: Task, observation: Observation, rng: Random) -> list[Message]:
    return [*calls_of(task.payload["plan"]), Message("assistant", task.payload["answer"])]


FAMILY = GymFamily(
    "execution", "programs, files, repositories and databases in a sandbox", partial(ExecutionEnv, FAMILIES, 100),
    _carry_out, call_at_random, chance=0.0,
)  # fmt: skip
