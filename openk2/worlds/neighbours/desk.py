"""A service desk: tools are functions over records, and one episode is calls on them.

A function's name, docstring and annotations are the tool's spec. A call that is malformed, or that the function
refuses, gets ``{"error": reason}`` and leaves the records as they were.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from openk2.schema import JSON, ToolCall, ToolSpec
from openk2.worlds.neighbours.records import Records
from openk2.worlds.simulator import Called, encode
from openk2.worlds.tools import Refusal

STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model sees, what checks its arguments, what runs, and whether that may change records."""

    spec: ToolSpec
    arguments: type[BaseModel]
    run: Callable[..., JSON]
    writes: bool


def tool(*, writes: bool) -> Callable[[Callable[..., JSON]], Tool]:
    """Make a tool of a function whose first parameter is the records. It raises ``Refusal`` to turn a call down."""

    def declare(function: Callable[..., JSON]) -> Tool:
        hints = get_type_hints(function)
        taken = list(inspect.signature(function).parameters.values())[1:]
        fields: dict[str, Any] = {
            each.name: (hints[each.name], ... if each.default is each.empty else each.default) for each in taken
        }
        arguments = create_model(function.__name__, __config__=STRICT, **fields)
        description = inspect.getdoc(function) or ""
        return Tool(ToolSpec(function.__name__, description, _parameters(arguments)), arguments, function, writes)

    return declare


def _parameters(arguments: type[BaseModel]) -> JSON:
    """The JSON schema, without the titles that pydantic adds."""
    schema = arguments.model_json_schema()
    properties = {
        name: {key: value for key, value in each.items() if key != "title"}
        for name, each in schema.get("properties", {}).items()
    }
    return {"type": "object", "properties": properties, "required": schema.get("required", [])}


class Desk:
    """One episode: the records, and the log of every call."""

    def __init__(self, tools: Mapping[str, Tool], records: Records) -> None:
        self.records = records
        self.log: list[Called] = []
        self._tools = tools

    @property
    def tools(self) -> list[ToolSpec]:
        """The tools as a model sees them."""
        return [each.spec for each in self._tools.values()]

    def run(self, call: ToolCall) -> str:
        """Execute one call and log it. Returns compact JSON; whatever is wrong with a call is in its ``error``."""
        called = self._execute(call)
        self.log.append(called)
        return encode(called.result)

    def _execute(self, call: ToolCall) -> Called:
        if call.error is not None:
            return Called(call.name, None, {"error": f"malformed call: {call.error.value}"})
        if call.name not in self._tools:
            return Called(call.name, None, {"error": "no such tool"})
        chosen = self._tools[call.name]
        try:
            given = chosen.arguments.model_validate_json(call.arguments)
        except ValidationError as error:
            return Called(call.name, None, {"error": _first_line(error)})
        arguments = {name: getattr(given, name) for name in type(given).model_fields}
        try:
            result = chosen.run(self.records, **arguments)
        except Refusal as refusal:
            result = {"error": str(refusal)}
        return Called(call.name, given.model_dump(exclude_unset=True), result)


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'arguments'}: {first['msg']}"


@tool(writes=False)
def transfer_to_human_agents(records: Records, summary: str) -> JSON:
    """Hand the user over to a human agent, with a summary of the matter, when it is beyond what the tools can do."""
    return {"ok": True}
