"""From a chat request to what the model is shown and what it may write."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from openk2.engine.server.answers import Served
from openk2.engine.server.errors import ApiError
from openk2.engine.server.grammar import CallRule, Grammar, Schema, check_schema, turn_grammar
from openk2.engine.server.requests import ChatRequest, NamedTool, ObjectFormat, SchemaFormat, Tool
from openk2.engine.server.vocabulary import Vocabulary

_OBJECT: Schema = {"type": "object"}


@dataclass(slots=True, frozen=True)
class TurnRules:
    """Which tools may be called, whether one must be, and what an answer in words looks like."""

    callable: list[Tool]
    must_call: bool
    parallel: bool
    answer: Schema | None

    @property
    def lark(self) -> str | None:
        """The grammar; None where the model is free to write what it likes."""
        strict = any(tool.function.strict for tool in self.callable)
        if self.callable and self.answer is None and self.parallel and not (self.must_call or strict):
            return None
        return turn_grammar(
            content="none" if self.must_call else "text" if self.answer is None else self.answer,
            calls=[CallRule(tool.function.name, self._arguments(tool)) for tool in self.callable],
            must_call=self.must_call,
            parallel=self.parallel,
        )

    @property
    def schemas(self) -> dict[str, Schema]:
        """Those the turn has to obey, by the names clients know them by."""
        answer = {} if self.answer is None else {"response_format": self.answer}
        tools = {f"tool {tool.function.name}, parameters": self._arguments(tool) for tool in self.callable}
        return answer | {name: schema for name, schema in tools.items() if schema is not None}

    def _arguments(self, tool: Tool) -> Schema | None:
        """Free only where the model chose to call, and the tool is not strict."""
        if self.must_call or tool.function.strict:
            return tool.function.parameters or _OBJECT
        return None


def turn_rules(request: ChatRequest) -> TurnRules:
    """What a request demands of the turn. Raises ApiError for a choice among tools that are not there."""
    tools, choice = request.tools or [], request.tool_choice
    if isinstance(choice, NamedTool):
        named = [tool for tool in tools if tool.function.name == choice.function.name]
        if not named:
            message = f"tool_choice: no tool is named {choice.function.name!r}"
            raise ApiError(400, message, param="tool_choice")
        return _rules(request, named, must_call=True, parallel=False)
    if choice == "required" and not tools:
        raise ApiError(400, "tool_choice is required, but there are no tools", param="tool_choice")
    parallel = request.parallel_tool_calls is not False
    return _rules(request, [] if choice == "none" else tools, must_call=choice == "required", parallel=parallel)


def _rules(request: ChatRequest, tools: list[Tool], *, must_call: bool, parallel: bool) -> TurnRules:
    answer: Schema | None = None
    if isinstance(request.response_format, ObjectFormat):
        answer = _OBJECT
    elif isinstance(request.response_format, SchemaFormat):
        answer = request.response_format.json_schema.schema_
    return TurnRules(tools, must_call, parallel, answer)


async def compile_rules(rules: TurnRules, served: Served) -> Grammar | None:
    """The grammar, ready for use. Raises ApiError for a schema that cannot be one."""
    if rules.lark is None:
        return None
    try:
        return await asyncio.to_thread(_compiled, rules.lark, rules.schemas, served.vocabulary)  # takes a while
    except ValueError as error:
        raise ApiError(400, str(error), code="invalid_schema") from None


def _compiled(lark: str, schemas: Mapping[str, Schema], vocabulary: Vocabulary) -> Grammar:
    """Each schema is tried alone first: only so can be said which one is wrong."""
    for name, schema in schemas.items():
        check_schema(name, schema, vocabulary)
    return Grammar(lark, vocabulary)
