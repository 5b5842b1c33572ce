"""Which goals an app allows, and with which of its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from openk2.worlds.scenario import goals
from openk2.worlds.scenario.goals import Tools
from openk2.worlds.scenario.script import Writer
from openk2.worlds.spec import App, Tool

ACTING = ("set", "transition", "add", "take")


def _single(*ops: str) -> Callable[[App], Iterator[Tools]]:
    return lambda app: ((tool,) for tool in app.tools if tool.op in ops)


def _found_and(*ops: str) -> Callable[[App], Iterator[Tools]]:
    """A tool that finds a record, and one with one of ``ops`` over the same entity."""

    def options(app: App) -> Iterator[Tools]:
        finds = {tool.entity: tool for tool in app.tools if tool.op == "find"}
        return ((finds[tool.entity], tool) for tool in app.tools if tool.op in ops and tool.entity in finds)

    return options


def _readable(app: App) -> Iterator[Tools]:
    """Reading tools that show a field somebody would ask for."""
    for tool in app.tools:
        if tool.op == "get" and any(app.entity(tool.entity).field(name).type != "ref" for name in tool.returns):
            yield (tool,)


def _shown_after(app: App) -> Iterator[Tools]:
    """A tool that changes a field, and one that shows it."""
    readers = _by_entity(app, "get")
    for one in app.tools:
        if one.op in ACTING:
            yield from ((one, two) for two in readers.get(one.entity, ()) if one.field in two.returns)


def _linked(app: App) -> Iterator[Tools]:
    readable = {tool.entity: tool for (tool,) in _readable(app)}
    for tool in app.tools:
        if tool.op == "get":
            entity = app.entity(tool.entity)
            for name in tool.returns:
                if entity.field(name).ref in readable and entity.field(name).ref != entity.name:
                    yield tool, readable[entity.field(name).ref]


def _guarded(app: App) -> Iterator[Tools]:
    """Transitions that some state of their record forbids."""
    for tool in app.tools:
        if tool.op == "transition":
            allowed = {value for c in tool.requires if c.field == tool.field for value in c.values}
            if allowed and set(app.entity(tool.entity).field(tool.field).values) - allowed:
                yield (tool,)


def _several(app: App) -> Iterator[Tools]:
    """A search, and a transition over the same entity."""
    movers = _by_entity(app, "transition")
    for one in app.tools:
        if one.op == "search":
            yield from ((one, two) for two in movers.get(one.entity, ()))


def _by_entity(app: App, op: str) -> dict[str, list[Tool]]:
    found: dict[str, list[Tool]] = {}
    for tool in app.tools:
        if tool.op == op:
            found.setdefault(tool.entity, []).append(tool)
    return found


GOALS: Mapping[str, tuple[Callable[[App], Iterator[Tools]], Writer]] = {
    "lookup": (_readable, goals.lookup),
    "find": (_single("find"), goals.find),
    "two_hop": (_linked, goals.two_hop),
    "act": (_single(*ACTING), goals.act),
    "find_act": (_found_and(*ACTING), goals.find_act),
    "act_and_check": (_shown_after, goals.act_and_check),
    "ask_back": (_single(*ACTING), goals.ask_back),
    "change_of_mind": (_single("set"), goals.change_of_mind),
    "create": (_single("create"), goals.create),
    "transfer": (_single("transfer"), goals.transfer),
    "refused": (_guarded, goals.refused),
    "update": (_single("update"), goals.update),
    "remove": (_single("remove"), goals.remove),
    "search": (_single("search"), goals.search),
    "aggregate": (_single("aggregate"), goals.aggregate),
    "for_each": (_several, goals.for_each),
}


@dataclass(frozen=True, eq=False)
class Place:
    """An app, and what goals its tools allow, with which tools: looked up once, as many tasks are set there."""

    app: App

    @cached_property
    def options(self) -> Mapping[str, tuple[Tools, ...]]:
        """By goal, the tools it can be about."""
        found = {name: tuple(find_options(self.app)) for name, (find_options, _) in GOALS.items()}
        return {name: tools for name, tools in found.items() if tools}
