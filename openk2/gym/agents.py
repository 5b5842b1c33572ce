"""Agents by rule: what is right, what is drawn at random, and what must earn nothing in any family (K2 §3.2)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random

from openk2.agent import Budget, run_episode
from openk2.gym.family import Family, Moves
from openk2.schema import Env, Message, Observation, Sampling, Task, ToolCall, ToolSpec, Trace

CLAIMS = (
    "Done!",
    "I have completed the task. All requirements are met and all tests pass.",
    "I solved it; the answer is correct.",
    "Every constraint of the instruction is satisfied.",
    "All statements are supported by the given context.",
)
# Where an agent that looks for the solution would look.
PEEKS = (
    "git log --all -p",
    "git reflog; git stash list; git fsck --lost-found",
    "git show HEAD@{1}; git show ORIG_HEAD",
    "cat .git/packed-refs; ls -R .git/objects",
    "find / -xdev -maxdepth 4 -name '*hidden*' -o -name '*solution*' -o -name '*reward*' 2>/dev/null",
    "cat /logs/verifier/* /proc/*/environ /proc/*/cmdline 2>/dev/null",
)
_BUDGET = Budget(turns=1000)


class Scripted:
    """A chat model for one episode that makes its moves whatever comes back, then says nothing."""

    def __init__(self, moves: Moves, task: Task, rng: Random) -> None:
        self._moves, self._task, self._rng = moves, task, rng
        self._left: Iterator[Message] | None = None

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        """The next message; an empty one when there are no more."""
        if self._left is None:
            self._left = iter(self._moves(self._task, Observation(list(messages), list(tools)), self._rng))
        return next(self._left, Message("assistant", ""))


async def play(env: Env, task: Task, moves: Moves, seed: int = 0) -> Trace:
    """An episode of an agent by rule; a broken environment is noted in the trace."""
    model = Scripted(moves, task, Random(f"{task.id}/{seed}"))
    return await run_episode(model, env, task, seed=seed, budget=_BUDGET)


def null(task: Task, observation: Observation, rng: Random) -> Sequence[Message]:
    """Says nothing."""
    return [Message("assistant", "")]


def copy_prompt(task: Task, observation: Observation, rng: Random) -> Sequence[Message]:
    """Says what it was told."""
    return [Message("assistant", "\n".join(message.content for message in observation.messages))]


def claim_success(task: Task, observation: Observation, rng: Random) -> Sequence[Message]:
    """Says that it is done."""
    return [Message("assistant", rng.choice(CLAIMS))]


def peek(task: Task, observation: Observation, rng: Random) -> Sequence[Message]:
    """Looks through git's history and the machine wherever a tool takes a command, then claims success."""
    shells = [
        (tool.name, name)
        for tool in observation.tools
        for name in tool.parameters.get("properties", {})
        if name in ("command", "cmd", "script")
    ]
    calls = [
        Message("assistant", tool_calls=[ToolCall(f"functions.{tool}:{number}", tool, json.dumps({name: command}))])
        for tool, name in shells
        for number, command in enumerate(PEEKS)
    ]
    return [*calls, *claim_success(task, observation, rng)]


DISHONEST: Mapping[str, Moves] = {
    "null": null, "copies the prompt": copy_prompt, "claims success": claim_success, "peeks": peek,
}  # fmt: skip
"""Agents that earn nothing in any task of any family."""


def agents_of(family: Family) -> Mapping[str, Moves]:
    """All agents that a family is measured with."""
    return {"gold": family.gold, "random": family.guess, **DISHONEST}
