"""What a goal is written in: a small dialogue in which the user speaks, the agent calls tools, and answers.

A goal is a generator. Before its first word it puts the records it needs into its draft; then it yields words and calls,
and is sent the result of each call. So what it tells is what the tools have shown, never what somebody computed beside
them, and writing a task is also the first proof that it can be done.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from openk2.schema import JSON
from openk2.worlds.scenario.records import Records
from openk2.worlds.spec import Tool


@dataclass(frozen=True, slots=True)
class Ask:
    """The user says something."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """The agent calls a tool. ``needed``: an episode without this call has not succeeded, whatever it says.

    ``ends``: what the goal counts on. Several goals share the records, so one may spoil another.
    """

    tool: Tool
    roles: Mapping[str, Any]
    needed: bool = False
    ends: Literal["well", "refused", "either way"] = "well"

    @property
    def arguments(self) -> JSON:
        """By parameter, those without a value left out."""
        return {param.name: self.roles[param.role] for param in self.tool.params if param.role in self.roles}


@dataclass(frozen=True, slots=True)
class Fact:
    """A value that an answer must name; ``grounded``: after a tool has shown it. Naming one of ``without`` spoils it."""

    value: str | int | float
    grounded: bool = True
    without: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    """The agent answers."""

    text: str
    facts: tuple[Fact, ...] = ()


Goal = Generator[Ask | Call | Tell, JSON, None]
Writer = Callable[[Records, tuple[Tool, ...]], Goal]


@dataclass(slots=True)
class Turn:
    """One thing the user says, what the agent does about it, and what it answers."""

    say: str
    calls: list[JSON] = field(default_factory=list)  # tool and arguments, by the names the agent sees
    answer: str = ""

    def to_json(self) -> JSON:
        """Plain JSON."""
        return {"say": self.say, "calls": self.calls, "answer": self.answer}
