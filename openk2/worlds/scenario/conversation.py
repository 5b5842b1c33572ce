"""A task with its world, its user and its agent, played turn by turn by whoever acts for the agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from openk2.schema import JSON, Message, Rubric, Score, Task, ToolCall, ToolSpec
from openk2.worlds.judge import judge
from openk2.worlds.scenario.agent import Agent
from openk2.worlds.scenario.faults import FaultRates
from openk2.worlds.scenario.hands import heard, reply
from openk2.worlds.scenario.script import Turn
from openk2.worlds.scenario.user import User
from openk2.worlds.scenario.world import Stage, World
from openk2.worlds.state import Rows, hash_of
from openk2.worlds.tools import parameters

FAMILY = "scenario"


@dataclass(frozen=True)
class Scenario:
    """A long task. ``names``: what a tool is called here, to its app and its name there; ``held``: those the user has."""

    id: str
    kind: str
    split: str
    stages: tuple[Stage, ...]
    names: Mapping[str, tuple[str, str]]
    agent: Agent
    user: User
    turns: tuple[Turn, ...]
    rubric: Rubric
    tags: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def num_calls(self) -> int:
        """Calls of the plan."""
        return sum(len(turn.calls) for turn in self.turns)

    @cached_property
    def tools(self) -> list[ToolSpec]:
        """The tools as the agent sees them."""
        return [spec for spec in self._specs if spec.name not in self.held]

    @cached_property
    def hands(self) -> list[ToolSpec]:
        """The tools on the user's side."""
        return [spec for spec in self._specs if spec.name in self.held]

    @cached_property
    def _specs(self) -> list[ToolSpec]:
        apps = {stage.app.name: stage.app for stage in self.stages}
        specs = []
        for name, (app, tool_name) in self.names.items():
            tool = apps[app].find_tool(tool_name)
            if tool is None:
                raise ValueError(f"{self.id}: {app} has no tool {tool_name}, which {name} stands for")
            specs.append(ToolSpec(name, tool.description, parameters(apps[app], tool)))
        return specs

    @cached_property
    def initial_hash(self) -> str:
        """Hash of the records before the first call."""
        return hash_of({name: table for stage in self.stages for name, table in stage.tables.items()})

    def to_task(self) -> Task:
        """The task, whole, as plain data."""
        payload = {
            "stages": [stage.to_json() for stage in self.stages],
            "names": {name: list(place) for name, place in self.names.items()},
            "agent": self.agent.to_json(),
            "user": self.user.to_json(),
            "turns": [turn.to_json() for turn in self.turns],
        } | ({"held": list(self.held)} if self.held else {})
        return Task(self.id, FAMILY, self.kind, self.split, payload, self.rubric, self.tags, float(self.num_calls))

    @classmethod
    def of(cls, task: Task) -> Scenario:
        """Read what ``to_task`` made. Raises ValueError for a bad spec in it."""
        payload, rubric = task.payload, task.rubric
        if rubric is None:
            raise ValueError(f"task {task.id} has no rubric")
        agent = Agent(**{**payload["agent"], "apps": tuple(payload["agent"]["apps"])})
        return cls(
            task.id, task.kind, task.split, tuple(Stage.from_json(stage) for stage in payload["stages"]),
            {name: (app, tool) for name, (app, tool) in payload["names"].items()}, agent, User(**payload["user"]),
            tuple(Turn(**turn) for turn in payload["turns"]), rubric, task.tags, tuple(payload.get("held", ())),
        )  # fmt: skip


class Conversation:
    """One episode of a scenario. The user speaks the next turn when the agent has answered the last.

    Words that ask the user to use a tool of theirs are no answer: the user does so and tells what it shows.
    """

    def __init__(self, scenario: Scenario, seed: int, rates: FaultRates) -> None:
        self.scenario, self.seed = scenario, seed
        self.world = World(scenario.stages, scenario.names, seed, rates, scenario.held)
        self.answers: list[str] = []
        self._heard: list[int] = []  # calls before each answer

    @property
    def ended(self) -> bool:
        """Whether the user has nothing more to say."""
        return len(self.answers) >= len(self.scenario.turns)

    def opening(self) -> list[Message]:
        """Who the agent is, and the user's first words."""
        return [Message("system", self.scenario.agent.prompt), Message("user", self.scenario.turns[0].say)]

    def call(self, calls: list[ToolCall]) -> list[Message]:
        """Execute the calls of one message, in order."""
        return [call.answered(self.world.run(call)) for call in calls]

    def answer(self, text: str) -> list[Message]:
        """Take the agent's answer; what the user says to it, nothing at the end."""
        if (asked := heard(text, self.scenario.hands)) is not None:
            return [Message("user", reply(self.world.run(asked, by="user"), len(self.world.log)))]
        self.answers.append(text)
        self._heard.append(len(self.world.log))
        return [] if self.ended else [Message("user", self.scenario.turns[len(self.answers)].say)]

    def score(self, rows: Rows | None = None) -> Score:
        """The rubric against records (those now, if they are at hand), log and answers."""
        now = self.world.look() if rows is None else rows
        return judge(self.scenario.rubric, self.world.initial, now, self.world.log, self.answers, self._heard)

    def snapshot(self) -> JSON:
        """The whole episode, as plain JSON."""
        return {"world": self.world.snapshot(), "answers": list(self.answers), "heard": list(self._heard)}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of the same scenario."""
        self.world.restore(snapshot["world"])
        self.answers, self._heard = list(snapshot["answers"]), list(snapshot["heard"])

    def close(self) -> None:
        """Free the world."""
        self.world.close()
