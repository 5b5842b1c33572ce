"""The scripted teacher: carries out a task's plan, and errs on purpose at a stated rate.

It holds the plan, so it is an oracle, not a language model.
"""

from __future__ import annotations

import copy
from random import Random

from openk2.schema import JSON, Message, Task, ToolCall
from openk2.worlds.execution.world import BoxWorld
from openk2.worlds.simulator import encode

MISTAKES = ("skipped_call", "wrong_text", "vague_answer")
LOOKING = ("list_files", "read_file", "search", "run_tests")  # to leave one of these out is no mistake


class Teacher:
    """Plays one task, with one mistake at most."""

    def __init__(self, task: Task, *, seed: int, sloppiness: float) -> None:
        """With probability ``sloppiness`` (by task and seed) it makes one of ``MISTAKES``."""
        rng = Random(f"teacher/{task.id}/{seed}")
        self._request: str = task.payload["request"]
        self._plan: list[JSON] = copy.deepcopy(task.payload["plan"])
        self.answer: str = task.payload["answer"]
        self.mistake: str | None = None
        if rng.random() < sloppiness:
            tells = any(item.check == "fact" for item in task.rubric.items) if task.rubric is not None else False
            self.mistake = rng.choice(MISTAKES if tells else MISTAKES[:2])
            self._err(self.mistake, rng)

    async def play(self, world: BoxWorld) -> list[Message]:
        """The whole conversation."""
        messages = [Message("user", self._request)]
        for number, step in enumerate(self._plan):
            call = ToolCall(f"functions.{step['tool']}:{number}", step["tool"], encode(step["arguments"]))
            messages.append(Message("assistant", tool_calls=[call]))
            messages.append(call.answered(await world.run(call)))
        messages.append(Message("assistant", self.answer))
        return messages

    def _err(self, mistake: str, rng: Random) -> None:
        acting = [step for step in self._plan if step["tool"] not in LOOKING] or self._plan
        step = rng.choice(acting)
        if mistake == "vague_answer":
            self.answer = "All good."
        elif mistake == "skipped_call":
            self._plan.remove(step)
        else:
            name = rng.choice(list(step["arguments"]))
            text = step["arguments"][name]
            cut = rng.randrange(len(text))
            step["arguments"][name] = text[:cut] + text[cut + 1 :]
