"""Tasks of one turn, read from others' benchmarks (BFCL, ACEBench), as an environment to be measured in (K2 §4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from openk2.schema import Message, Observation, Score, Task, ToolSpec, Trace
from openk2.worlds.neighbours.calls import judge_turn


class CallEnv:
    """Shows a dialogue and tools, and takes one reply: calls are compared, never executed (an ``Env``).

    ``tasks`` are those that ``read_bfcl`` or ``read_acebench`` give, all of split "test". The seed of ``reset`` changes
    nothing.
    """

    resumable: Literal["replay"] = "replay"

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._task: Task | None = None
        self._reply: Message | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of split "test", which is all there is. Raises ValueError for another."""
        if split != "test":
            raise ValueError(f'no split "{split}": these tasks are for measuring alone, their split is "test"')
        return self._tasks

    async def reset(self, task: Task, seed: int) -> Observation:
        """Show the dialogue so far and the tools."""
        self._task, self._reply = task, None
        messages = [Message.from_json(message) for message in task.payload["messages"]]
        return Observation(messages, [ToolSpec.from_json(tool) for tool in task.payload["tools"]])

    async def step(self, message: Message) -> Observation:
        """Take the reply, which ends the episode. Raises ValueError when none is awaited."""
        if self._task is None or self._reply is not None:
            raise ValueError("no reply is awaited: call reset first")
        self._reply = message
        return Observation([], [], terminated=True)

    async def score(self, trace: Trace) -> Score:
        """1 for a right reply, else 0; the parts are those of ``judge_turn``. No reply is a wrong one."""
        if self._task is None:
            raise ValueError("no episode to score: call reset first")
        return judge_turn(self._task.payload, self._reply)

    async def close(self) -> None:
        """Forget the episode."""
        self._task = self._reply = None

    def snapshot(self) -> bytes:
        """Raises ValueError: the episode is resumed by replay."""
        raise ValueError("episodes of one turn have no snapshot: they are resumed by replay")

    def restore(self, state: bytes) -> None:
        """Raises ValueError: the episode is resumed by replay."""
        raise ValueError("episodes of one turn have no snapshot: they are resumed by replay")
