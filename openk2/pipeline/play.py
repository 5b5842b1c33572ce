"""Look at a family's tasks, export them, or play them in the terminal: by hand, or watching an agent by rule."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Column, Table

from openk2.agent import Budget, run_episode
from openk2.gym import catalogue
from openk2.gym.agents import agents_of
from openk2.gym.agents import play as play_by_rule
from openk2.gym.family import Family
from openk2.jobs import jsonl
from openk2.schema import Message, Observation, Sampling, Task, ToolCall, ToolSpec, Trace
from openk2.view.trace import render_message

_HOW = "a line is your reply; << begins one of several lines, >> ends it; /call NAME {…} calls a tool; Ctrl-D leaves"
_BUDGET = Budget(turns=1000)


class _LeftError(Exception):
    """The person at the keyboard has gone."""


class Keyboard:
    """A chat model that is a person in a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = 0

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        """Show what is new, and take a reply."""
        if self._shown == 0:
            for tool in tools:
                names = ", ".join(tool.parameters.get("properties", {}))
                self._console.print(f"tool {tool.name}({names}): {tool.description}", markup=False)
        for message in messages[self._shown :]:
            self._console.print(render_message(message))
        self._shown = len(messages) + 1  # the reply itself has been seen
        return self._reply(len(messages))

    def _reply(self, number: int) -> Message:
        said = self._line("you: ")
        if said.strip() == "<<":
            lines = []
            while (line := self._line("")).strip() != ">>":
                lines.append(line)
            return Message("assistant", "\n".join(lines))
        if said.startswith("/call "):
            _, name, *arguments = said.split(maxsplit=2)
            call = ToolCall(f"functions.{name}:{number}", name, arguments[0] if arguments else "{}")
            return Message("assistant", tool_calls=[call])
        return Message("assistant", said)

    def _line(self, prompt: str) -> str:
        try:
            return self._console.input(prompt)
        except EOFError:
            raise _LeftError from None


def list_families() -> None:
    """All families, with what they are about or what they lack."""
    table = Table("family", "about")
    for name in catalogue.NAMES:
        try:
            table.add_row(name, catalogue.family(name).about)
        except ValueError as error:
            table.add_row(name, f"not here: {error}")
    Console().print(table)


def list_tasks(family: Family, split: str, most: int) -> None:
    """A line for each of the first tasks."""
    table = Table(Column("task", overflow="fold"), "kind", "difficulty", "tags")
    tasks = family.make().tasks(split)
    for task in tasks[:most]:
        table.add_row(task.id, task.kind, f"{task.difficulty:g}", " ".join(task.tags))
    console = Console()
    console.print(table)
    console.print(f"{min(most, len(tasks))} of {len(tasks)} tasks")


def export(family: Family, split: str, out: Path) -> None:
    """All tasks as JSON Lines."""
    tasks = family.make().tasks(split)
    jsonl.write(out, (task.to_json() for task in tasks))
    Console().print(f"{out}: {len(tasks)} tasks", soft_wrap=True)


def play(family: Family, split: str, *, task_id: str | None, seed: int, agent: str | None, most: int | None) -> None:
    """Play tasks in a seeded order, or the one named, until ``most`` are done or the person leaves.

    Raises ValueError for an unknown task or agent.
    """
    agents = agents_of(family)
    if agent is not None and agent not in agents:
        raise ValueError(f"no agent called {agent!r}; there are {', '.join(agents)}")
    chosen = islice(_chosen(family.make().tasks(split), task_id, seed), most)
    console = Console()
    if agent is None:
        console.print(_HOW, markup=False, soft_wrap=True)
    # asyncio's own handler would wait for the event loop, which waits for the keyboard.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for task in chosen:
            console.rule(task.id)
            asyncio.run(_episode(family, task, seed, agent, console))
    except (_LeftError, KeyboardInterrupt):
        console.print("")
    finally:
        signal.signal(signal.SIGINT, before)


def _chosen(tasks: Sequence[Task], task_id: str | None, seed: int) -> Iterable[Task]:
    if task_id is None:
        # By place: some families make a task when it is asked for.
        return (tasks[place] for place in Random(seed).sample(range(len(tasks)), len(tasks)))
    found = [task for task in tasks if task.id == task_id]
    if not found:
        raise ValueError(f"no task {task_id!r} in this split; --list shows them")
    return found


async def _episode(family: Family, task: Task, seed: int, agent: str | None, console: Console) -> None:
    env = family.make()
    if agent is not None:
        trace = await play_by_rule(env, task, agents_of(family)[agent], seed)
        for message in trace.messages:
            console.print(render_message(message))
    else:
        trace = await run_episode(Keyboard(console), env, task, seed=seed, budget=_BUDGET)
    _tell(trace, console)
    if agent is None and trace.score is not None and not trace.score.passed:
        console.print("what earns 1:")
        for message in family.gold(task, Observation(trace.messages, trace.tools), Random(seed)):
            console.print(render_message(message))


def _tell(trace: Trace, console: Console) -> None:
    if trace.stop_reason == "env_error":
        console.print(f"the environment broke: {trace.info['error']}", markup=False)
    assert trace.score is not None, "an episode ends in a score"
    parts = ", ".join(f"{name} {value:g}" for name, value in trace.score.parts.items())
    console.print(f"score {trace.score.total:g}" + (f" ({parts})" if parts else ""), markup=False)
