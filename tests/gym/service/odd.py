"""Environments to try a service with: one that counts, and some that go wrong in the step they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any, Literal

from openk2.schema import Message, Observation, Score, Task, ToolSpec, Trace

TOOL = ToolSpec("count", "Count.", {"type": "object", "properties": {}})


class CountingEnv:
    """Says how many steps it has taken, and how often it acted in all its life. "stop" ends it; its score is steps/10.

    What ``misbehave`` says happens when a step's text is "now".
    """

    resumable: Literal["snapshot"] = "snapshot"
    num_closed = 0

    def __init__(self) -> None:
        self._steps = 0
        self._task: Task | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        if split != "train":
            raise ValueError(f"no split {split!r}")
        return [Task(f"count-{i}", "counting", "count", split, {"to": i}) for i in range(250)]

    async def reset(self, task: Task, seed: int) -> Observation:
        self._task, self._steps = task, 0
        return Observation([Message("user", f"count {task.payload['to']} {seed}")], [TOOL])

    async def step(self, message: Message) -> Observation:
        if message.content == "now":
            return await self.misbehave()
        if message.content.startswith("wait "):
            await asyncio.sleep(float(message.content.removeprefix("wait ")))
        self._steps += 1
        return Observation(
            [Message("user", f"{self._steps} {message.content}")], [TOOL], terminated=message.content == "stop"
        )

    async def misbehave(self) -> Any:
        raise KeyError("now")

    async def score(self, trace: Trace) -> Score:
        return Score(self._steps / 10, {"messages": float(len(trace.messages)), "tokens": float(len(trace.token_ids))})

    async def close(self) -> None:
        pass

    def snapshot(self) -> bytes:
        return json.dumps({"steps": self._steps}).encode()

    def restore(self, state: bytes) -> None:
        self._steps = json.loads(state)["steps"]


class Hanging(CountingEnv):
    async def misbehave(self) -> Any:
        await asyncio.sleep(1000)


class Stubborn(CountingEnv):
    async def misbehave(self) -> Any:
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(1000)


class Sleeping(CountingEnv):
    async def misbehave(self) -> Any:
        time.sleep(1000)


class Spinning(CountingEnv):
    async def misbehave(self) -> Any:
        while True:
            with contextlib.suppress(Exception):
                sum(range(1000))


class WrongType(CountingEnv):
    async def misbehave(self) -> Any:
        return {"messages": []}


class WrongMessage(CountingEnv):
    async def misbehave(self) -> Any:
        return Observation(["hello"], [])


class Unwritable(CountingEnv):
    async def misbehave(self) -> Any:
        return Observation([], [], info={"a set": {1}})


class Unclosable(CountingEnv):
    async def close(self) -> None:
        raise OSError("the lid is stuck")


class Unmakable(CountingEnv):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        if self.made > 1:  # the first one is asked what it is
            raise OSError("no more of them")
        super().__init__()


ODD = {
    "counting": CountingEnv, "raising": CountingEnv, "hanging": Hanging, "stubborn": Stubborn, "sleeping": Sleeping,
    "spinning": Spinning, "wrong_type": WrongType, "wrong_message": WrongMessage, "unwritable": Unwritable,
    "unclosable": Unclosable, "unmakable": Unmakable,
}  # fmt: skip
