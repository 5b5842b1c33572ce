"""tau2-bench's tasks as an environment: an assistant at a service desk, and a user played by a model (K2 §4.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from openk2.schema import ChatModel, Message, Observation, Sampling, Score, Task, Trace
from openk2.worlds.neighbours.desk import Desk
from openk2.worlds.neighbours.tau2 import Domain, judge_desk, open_desk
from openk2.worlds.state import Rows

STOP = "###STOP###"
GREETING = "Hi! How can I help you today?"
PLAY = f"""You play a user who talks to a service desk. Say one short thing at a time, as this user would.
Give a fact only when you are asked for it, invent none, and follow the instructions to the letter.
When all you came for is done, or cannot be, answer {STOP}

"""


class DeskEnv:
    """The policy as system message, the user's words, and tools that work on the records (an ``Env``).

    Calls are executed; a message without calls goes to the user, whose model sees its scenario and what was said, never the
    tools. The episode ends when the user says so. ``sampling`` draws the user's words.
    """

    resumable: Literal["none"] = "none"

    def __init__(self, domain: Domain, tasks: Sequence[Task], user: ChatModel, sampling: Sampling) -> None:
        self._domain, self._tasks, self._user, self._sampling = domain, tasks, user, sampling
        self._task: Task | None = None
        self._desk: Desk | None = None
        self._before: Rows = {}
        self._said: list[Message] = []

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of split "test", which is all there is. Raises ValueError for another."""
        if split != "test":
            raise ValueError(f'no split "{split}": these tasks are for measuring alone, their split is "test"')
        return self._tasks

    async def reset(self, task: Task, seed: int) -> Observation:
        """Begin: the policy, what was said before, and the user's first words. Raises ValueError for another domain's."""
        if task.payload.get("domain") != self._domain.name:
            raise ValueError(f'task "{task.id}" is not of the domain {self._domain.name}')
        await self.close()
        self._task, self._desk = task, open_desk(self._domain, task.payload)
        self._before = self._desk.records.rows()
        history = [Message.from_json(message) for message in task.payload["history"]]
        opening = history or [Message("assistant", GREETING)]
        self._said = [message for message in opening if message.role in ("user", "assistant") and message.content]
        heard = await self._hear()
        return Observation([Message("system", self._domain.policy), *opening, heard], self._desk.tools)

    async def step(self, message: Message) -> Observation:
        """Execute the message's calls in order; without calls it is said to the user, who answers or leaves."""
        if message.tool_calls:
            results = [call.answered(self.desk.run(call)) for call in message.tool_calls]
            return Observation(results, self.desk.tools)
        self._said.append(message)
        heard = await self._hear()
        return Observation([heard], self.desk.tools, terminated=STOP in heard.content)

    async def score(self, trace: Trace) -> Score:
        """Judge the episode by the records, the calls, and what the user was told in it."""
        assert self._task is not None, "reset comes before score"
        assert self._task.rubric is not None, "a desk's task has a rubric"
        said = [message.content for message in self._said if message.role == "assistant"]
        return judge_desk(self._task.rubric, self._before, self.desk, said)

    async def close(self) -> None:
        """Free the episode's records."""
        if self._desk is not None:
            self._desk.records.close()
            self._desk = None

    @property
    def desk(self) -> Desk:
        """The episode's desk: its records and log, to look at."""
        assert self._desk is not None, "reset comes first"
        return self._desk

    def snapshot(self) -> bytes:
        """Raises ValueError: the user's model is not in a snapshot."""
        raise ValueError("an episode with a user has no snapshot: play it again")

    def restore(self, state: bytes) -> None:
        """Raises ValueError: the user's model is not in a snapshot."""
        raise ValueError("an episode with a user has no snapshot: play it again")

    async def _hear(self) -> Message:
        """The user's next words. To the user's model the assistant is the one who asks."""
        assert self._task is not None, "reset comes first"
        scene = Message("system", PLAY + _in_words(self._task.payload["scenario"]))
        turned = [Message("user" if said.role == "assistant" else "assistant", said.content) for said in self._said]
        words = (await self._user.complete([scene, *turned], [], self._sampling)).content
        self._said.append(Message("user", words))
        return self._said[-1]


def _in_words(scenario: Mapping[str, Any]) -> str:
    """The user's persona and instructions, as the benchmark wrote them."""
    told = {key: value for key, value in scenario.items() if value}
    return json.dumps(told, ensure_ascii=False, indent=1)
