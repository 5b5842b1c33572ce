from __future__ import annotations

from typing import Any

import pytest

from openk2.engine.server.errors import ApiError
from openk2.engine.server.grammar import Grammar
from openk2.engine.server.requests import ChatRequest
from openk2.engine.server.turn_rules import turn_rules
from openk2.engine.server.vocabulary import Vocabulary
from openk2.text import tokenizer as names

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def asked(*tools: dict[str, Any], **more: Any) -> ChatRequest:
    listed = [{"type": "function", "function": {"name": "note", "parameters": SCHEMA, **tool}} for tool in tools]
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": listed, **more}
    return ChatRequest.model_validate(body)


def allows(vocabulary: Vocabulary, request: ChatRequest, turn: str) -> bool:
    """Whether the turn, special tokens by their names, may be written to its end."""
    lark = turn_rules(request).lark
    if lark is None:
        return True
    constraint = Grammar(lark, vocabulary).constraint()
    for token_id in vocabulary.for_grammars.tokenize_str(turn + names.IM_END, parse_special=True):
        if not constraint.allowed()[token_id]:
            return False
        constraint.accept(token_id)
    return True


def call(arguments: str, name: str = "note") -> str:
    return f"{names.CALL_BEGIN}functions.{name}:0{names.ARGUMENT_BEGIN}{arguments}{names.CALL_END}"


def section(*calls: str) -> str:
    return names.SECTION_BEGIN + "".join(calls) + names.SECTION_END


GOOD, BAD = call('{"n":1}'), call('{"n":"x"}')


def test_a_free_turn_has_no_grammar() -> None:
    assert turn_rules(asked({})).lark is None


@pytest.mark.parametrize(
    ("request_", "allowed", "refused"),
    [
        (asked(), ["hi"], [section(GOOD)]),
        (asked({}, tool_choice="none"), ["hi"], [section(GOOD), "hi" + section(GOOD)]),
        (asked({}, tool_choice="required"), [section(GOOD), section(GOOD, GOOD)], ["hi", section(BAD), section()]),
        (asked({}, tool_choice="required", parallel_tool_calls=False), [section(GOOD)], [section(GOOD, GOOD)]),
        (asked({}, parallel_tool_calls=False), ["hi", section(GOOD), section(BAD)], [section(GOOD, GOOD)]),
        (asked({"strict": True}), ["hi", section(GOOD), "hi" + section(GOOD)], [section(BAD)]),
        (asked({"strict": True}, {"name": "free"}), [section(call("oh no", "free"))], [section(BAD)]),
        (asked(response_format={"type": "json_object"}), ['{"a":1}'], ["hi", "[1]"]),
        (asked({}, response_format={"type": "json_object"}), ['{"a":1}', section(GOOD)], ["hi"]),
        (
            asked({}, {"name": "other"}, tool_choice={"type": "function", "function": {"name": "other"}}),
            [section(call('{"n":1}', "other"))],
            [section(GOOD), section(call('{"n":1}', "other"), call('{"n":1}', "other")), "hi"],
        ),
    ],
)
def test_what_may_be_written(
    vocabulary: Vocabulary, request_: ChatRequest, allowed: list[str], refused: list[str]
) -> None:
    assert [turn for turn in allowed if not allows(vocabulary, request_, turn)] == []
    assert [turn for turn in refused if allows(vocabulary, request_, turn)] == []


@pytest.mark.parametrize(
    "request_",
    [asked(tool_choice="required"), asked({}, tool_choice={"type": "function", "function": {"name": "nobody"}})],
)
def test_a_choice_among_tools_that_are_not_there(request_: ChatRequest) -> None:
    with pytest.raises(ApiError, match="tool_choice"):
        turn_rules(request_)
