from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import TypeAdapter

from openk2.data.export import formats
from openk2.data.export.formats import UnfitError

BACK = {
    formats.to_openai: formats.from_openai,
    formats.to_trl: formats.from_trl,
    formats.to_llamafactory: formats.from_llamafactory,
}


def conversation(record: dict[str, Any]) -> dict[str, Any]:
    return {"messages": record["messages"], "tools": record["tools"]}


@pytest.mark.parametrize("to", BACK)
def test_real_trajectories_go_there_and_back(to: Any, kept: list[dict[str, Any]]) -> None:
    assert len(kept) > 50
    for record in kept:
        before = json.dumps(record)
        assert BACK[to](json.loads(json.dumps(to(conversation(record))))) == conversation(record)
        assert json.dumps(record) == before


words = st.text(max_size=8)
values = st.none() | st.booleans() | st.integers() | words | st.lists(words, max_size=2) | st.just({"a": {"b": [1.5]}})


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    """Any alternating conversation with canonical calls, several at once too."""
    messages = [{"role": "system", "content": draw(words.filter(bool))}] if draw(st.booleans()) else []
    count = 0
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(words)})
        for _ in range(draw(st.integers(0, 2))):
            calls = []
            for _ in range(draw(st.integers(1, 3))):
                name = draw(st.sampled_from(["find", "say"]))
                function = {
                    "name": name,
                    "arguments": formats.compact(draw(st.dictionaries(words, values, max_size=3))),
                }
                calls.append({"id": f"functions.{name}:{count}", "type": "function", "function": function})
                count += 1
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})
            messages += [
                {"role": "tool", "content": draw(words), "tool_call_id": c["id"], "name": c["function"]["name"]}
                for c in calls
            ]
        messages.append({"role": "assistant", "content": draw(words)})
    tool = {"name": "find", "description": draw(words), "parameters": {"type": "object"}}
    return {"messages": messages, "tools": [{"type": "function", "function": tool}]}


@pytest.mark.parametrize("to", BACK)
@settings(max_examples=30)
@given(whole=conversations())
def test_any_conversation_goes_there_and_back(to: Any, whole: dict[str, Any]) -> None:
    assert BACK[to](json.loads(json.dumps(to(whole)))) == whole


def test_openai_knows_every_key(kept: list[dict[str, Any]]) -> None:
    messages, tools = TypeAdapter(list[ChatCompletionMessageParam]), TypeAdapter(list[ChatCompletionFunctionToolParam])
    known = {"system": {"role", "content"}, "user": {"role", "content"}, "assistant": {"role", "content", "tool_calls"},
             "tool": {"role", "content", "tool_call_id"}}  # fmt: skip
    for record in kept:
        row = formats.to_openai(conversation(record))
        messages.validate_python(row["messages"])
        tools.validate_python(row["tools"])
        assert all(message.keys() <= known[message["role"]] for message in row["messages"])


def test_trl_gets_objects_for_arguments(kept: list[dict[str, Any]]) -> None:
    for record in kept:
        for message in formats.to_trl(conversation(record))["messages"]:
            assert all(isinstance(call["function"]["arguments"], dict) for call in message.get("tool_calls", ()))


USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}


def calling(arguments: str = "{}", content: str = "", **more: Any) -> dict[str, Any]:
    call = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": arguments}, **more}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


@pytest.mark.parametrize(
    ("to", "messages", "reason"),
    [
        (formats.to_openai, [USER, calling("{", error="bad_json")], "a call is malformed"),
        (formats.to_trl, [USER, calling("{")], "arguments are not JSON"),
        (formats.to_trl, [USER, calling("[1]")], "arguments are no JSON object"),
        (formats.to_llamafactory, [USER, calling(content="Let me see.")], "words beside its call"),
        (formats.to_llamafactory, [USER, USER, ANSWER, ANSWER], "do not alternate"),
        (formats.to_llamafactory, [USER, ANSWER, USER], "the last turn is not the model's"),
        (formats.to_llamafactory, [USER, {"role": "system", "content": "x"}], "a system message stands after"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(to: Any, messages: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(UnfitError, match=reason):
        to({"messages": messages, "tools": []})
