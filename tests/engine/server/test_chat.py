"""Chat completions, asked by OpenAI's own client."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

USER: Any = [{"role": "user", "content": "Where is order K-1?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"order": {"type": "string", "enum": ["K-1", "K-2"]}, "rush": {"type": "boolean"}},
    "required": ["order", "rush"],
    "additionalProperties": False,
}


def tool(name: str, *, strict: bool = False) -> Any:
    function = {"name": name, "description": "Look up.", "parameters": PARAMETERS, "strict": strict}
    return {"type": "function", "function": function}


def test_an_answer(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="tiny", messages=USER, max_tokens=12, seed=1)
    assert done.object == "chat.completion"
    assert done.choices[0].message.role == "assistant"
    assert done.choices[0].finish_reason in ("stop", "length")
    assert done.usage is not None
    assert 0 < done.usage.completion_tokens <= 12
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


def test_a_stream_says_the_same_as_an_answer_in_one_piece(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=USER, max_tokens=40, seed=5, n=2)
    texts, reasons = ["", ""], ["", ""]
    usage = None
    chunks = client.chat.completions.create(
        model="tiny", messages=USER, max_tokens=40, seed=5, n=2, stream=True, stream_options={"include_usage": True}
    )
    for chunk in chunks:
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert texts[0] != texts[1]
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_required_obeys_its_schema(client: openai.OpenAI, stream: bool) -> None:
    tools = [tool("get_order"), tool("put_order")]
    for seed in range(2):
        asked: Any = {"model": "tiny", "messages": USER, "tools": tools, "tool_choice": "required", "seed": seed,
                      "max_tokens": 200, "parallel_tool_calls": False}  # fmt: skip
        if stream:
            with client.chat.completions.stream(**asked) as events:
                for _ in events:
                    pass
                choice: Any = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**asked).choices[0]
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls
        assert call.id == f"functions.{call.function.name}:0"
        assert call.function.name in ("get_order", "put_order")
        jsonschema.validate(json.loads(call.function.arguments), PARAMETERS)
        assert not choice.message.content


def test_a_named_tool_is_the_one_that_is_called(client: openai.OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "put_order"}}
    tools = [tool("get_order"), tool("put_order")]
    done = client.chat.completions.create(model="tiny", messages=USER, tools=tools, tool_choice=choice, max_tokens=200)
    calls: Any = done.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["put_order"]


def test_calls_are_counted_over_the_whole_dialogue(client: openai.OpenAI) -> None:
    calls = [{"id": "call_abc", "type": "function", "function": {"name": "get_order", "arguments": "{}"}}]
    messages: Any = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_abc", "content": "shipped"},
    ]
    done = client.chat.completions.create(
        model="tiny", messages=messages, tools=[tool("get_order")], tool_choice="required", max_tokens=200,
        parallel_tool_calls=False,
    )  # fmt: skip
    called: Any = done.choices[0].message.tool_calls
    assert called[0].id == "functions.get_order:1"


def test_tool_choice_none_never_calls(client: openai.OpenAI) -> None:
    for seed in range(3):
        done = client.chat.completions.create(
            model="tiny", messages=USER, tools=[tool("get_order")], tool_choice="none", max_tokens=40, seed=seed,
            temperature=2.0,
        )  # fmt: skip
        assert done.choices[0].message.tool_calls is None
        assert "<|" not in (done.choices[0].message.content or "")


def test_an_answer_in_json(client: openai.OpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "order", "schema": PARAMETERS, "strict": True}}
    done = client.chat.completions.create(model="tiny", messages=USER, response_format=wanted, max_tokens=200)
    jsonschema.validate(json.loads(done.choices[0].message.content or ""), PARAMETERS)
    done = client.chat.completions.create(
        model="tiny", messages=USER, response_format={"type": "json_object"}, max_tokens=20
    )
    assert (done.choices[0].message.content or "").startswith("{")


def test_logprobs(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="tiny", messages=USER, max_tokens=10, logprobs=True, top_logprobs=3, temperature=0
    )
    content: Any = done.choices[0].logprobs
    assert bytes(byte for entry in content.content for byte in entry.bytes).decode("utf-8", "replace") == (
        done.choices[0].message.content
    )
    for entry in content.content:
        best = [top.logprob for top in entry.top_logprobs]
        assert best == sorted(best, reverse=True)
        assert len(best) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_never_shows(client: openai.OpenAI, stream: bool) -> None:
    free = client.chat.completions.create(model="tiny", messages=USER, max_tokens=60, seed=2)
    text = free.choices[0].message.content or ""
    stop = text[len(text) // 2 :][:3]
    asked: Any = {"model": "tiny", "messages": USER, "max_tokens": 60, "seed": 2, "stop": stop}
    if stream:
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
        shown = "".join(chunk.delta.content or "" for chunk in chunks)
        reason = chunks[-1].finish_reason
    else:
        done = client.chat.completions.create(**asked)
        shown, reason = done.choices[0].message.content or "", done.choices[0].finish_reason
    assert shown == text[: text.index(stop)]
    assert reason == "stop"


def test_the_second_turn_finds_the_first_in_the_cache(client: openai.OpenAI) -> None:
    longer: Any = [{"role": "user", "content": "A question of some length, asked twice in a row. " * 5}]
    client.chat.completions.create(model="tiny", messages=longer, max_tokens=1)
    again = client.chat.completions.create(model="tiny", messages=longer, max_tokens=1)
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert (again.usage.prompt_tokens_details.cached_tokens or 0) > again.usage.prompt_tokens // 2
