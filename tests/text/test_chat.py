from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.schema import CallError, Message, ToolCall, ToolSpec
from openk2.text import tokenizer as names
from openk2.text.chat import ChatFormat, Encoded, next_call_id

TEXTS = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(names.SPECIAL_TOKENS)), max_size=4).map("".join)
NAMES = st.from_regex(r"[a-z][a-z_.]{0,10}", fullmatch=True)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=4
)
ARGUMENTS = st.dictionaries(TEXTS, JSON_VALUES, max_size=3)


@st.composite
def dialogues(draw: st.DrawFn) -> list[Message]:
    messages: list[Message] = []
    for role in draw(st.lists(st.sampled_from(["system", "user", "assistant", "tool"]), max_size=6)):
        message = Message(role, draw(TEXTS))  # type: ignore[arg-type]
        messages.append(message)
        if role == "tool":
            message.tool_call_id = f"functions.{draw(NAMES)}:{draw(st.integers(0, 12))}"
        if role == "assistant":
            for name in draw(st.lists(NAMES, max_size=3)):
                arguments = json.dumps(draw(ARGUMENTS), ensure_ascii=draw(st.booleans()))
                message.tool_calls.append(ToolCall(next_call_id(messages, name), name, arguments))
    return messages


def sampled_turns(encoded: Encoded) -> list[list[int]]:
    """The runs of ids with loss: what the assistant wrote, turn by turn."""
    pairs = zip(encoded.token_ids, encoded.loss_mask, strict=True)
    return [[token for token, _ in run] for loss, run in groupby(pairs, key=lambda pair: pair[1]) if loss]


def test_the_format_is_k2s(chat: ChatFormat, get_order: ToolSpec) -> None:
    call = ToolCall("functions.get_order:0", "get_order", '{"order_id":"A12"}')
    messages = [
        Message("system", "Be brief."),
        Message("user", "Where is A12?"),
        Message("assistant", "Let me see.", [call]),
        Message("tool", '{"status":"open"}', tool_call_id=call.id),
        Message("assistant", "It is open."),
    ]
    declaration = json.dumps([get_order.to_json()], separators=(",", ":"))
    assert chat.tokenizer.decode(chat.encode(messages, [get_order]).token_ids) == (
        f"<|im_system|>tool_declare<|im_middle|># Tools\n{declaration}<|im_end|>"
        "<|im_system|>system<|im_middle|>Be brief.<|im_end|>"
        "<|im_user|>user<|im_middle|>Where is A12?<|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>Let me see.<|tool_calls_section_begin|>"
        '<|tool_call_begin|>functions.get_order:0<|tool_call_argument_begin|>{"order_id":"A12"}<|tool_call_end|>'
        "<|tool_calls_section_end|><|im_end|>"
        '<|im_system|>tool<|im_middle|>## Return of functions.get_order:0\n{"status":"open"}<|im_end|>'
        "<|im_assistant|>assistant<|im_middle|>It is open.<|im_end|>"
    )


@settings(max_examples=150)
@given(messages=dialogues())
def test_what_the_assistant_wrote_comes_back(chat: ChatFormat, messages: list[Message]) -> None:
    encoded = chat.encode(messages)
    parsed = [chat.parse(turn) for turn in sampled_turns(encoded)]
    assert parsed == [message for message in messages if message.role == "assistant"]
    im_end = chat.tokenizer.special_ids[names.IM_END]
    assert all(turn[-1] == im_end for turn in sampled_turns(encoded))
    assert encoded.token_ids.count(im_end) == len(messages)


@settings(max_examples=150)
@given(messages=dialogues(), closes=st.booleans())
def test_prompt_sampled_extend_is_the_whole_dialogue(chat: ChatFormat, messages: list[Message], closes: bool) -> None:
    im_end = chat.tokenizer.special_ids[names.IM_END]
    for at, message in enumerate(messages):
        if message.role != "assistant":
            continue
        [sampled] = sampled_turns(chat.encode([message]))
        token_ids = chat.prompt(messages[:at]) + (sampled if closes else sampled[:-1])
        before_next = token_ids + chat.extend(token_ids, messages[at + 1 :])
        assert before_next == chat.prompt(messages)
        assert chat.encode(messages).token_ids == before_next[: len(chat.encode(messages).token_ids)]
        assert before_next.count(im_end) == len(messages)


def written(chat: ChatFormat, message: Message) -> list[int]:
    """The assistant's ids for a message, without its header."""
    [turn] = sampled_turns(chat.encode([message]))
    return turn


@settings(max_examples=300)
@given(data=st.data())
def test_any_ids_parse_and_what_was_understood_is_stable(chat: ChatFormat, data: st.DataObject) -> None:
    structural = st.sampled_from(sorted(chat.tokenizer.special_ids.values()))
    token_ids = data.draw(st.lists(structural | st.integers(0, chat.tokenizer.vocab_size - 1), max_size=40))
    message = chat.parse(token_ids)
    assert message.role == "assistant"
    assert chat.parse(written(chat, message)) == message


@settings(max_examples=100)
@given(messages=dialogues(), data=st.data())
def test_truncated_turns_parse_to_a_visible_error(
    chat: ChatFormat, messages: list[Message], data: st.DataObject
) -> None:
    for message in messages:
        if message.role == "assistant":
            turn = written(chat, message)
            stop = data.draw(st.integers(0, len(turn) - 1))
            cut = chat.parse(turn[:stop])
            assert chat.parse(written(chat, cut)) == cut
            done = [call for call in cut.tool_calls if call.error is None]
            assert done == message.tool_calls[: len(done)]
            assert all(call.error == CallError.TRUNCATED for call in cut.tool_calls[len(done) :])
            assert len(cut.tool_calls) <= len(done) + 1


def call_ids(chat: ChatFormat, call_id: str, arguments: str | None, *, closed: bool = True) -> list[int]:
    special, encode = chat.tokenizer.special_ids, chat.tokenizer.encode
    ids = [special[names.SECTION_BEGIN], special[names.CALL_BEGIN], *encode(call_id)]
    if arguments is not None:
        ids += [special[names.ARGUMENT_BEGIN], *encode(arguments)]
    return ids + ([special[names.CALL_END], special[names.SECTION_END]] if closed else [])


@pytest.mark.parametrize(
    ("call_id", "arguments", "closed", "expected"),
    [
        ("functions.get:0", "{}", True, ToolCall("functions.get:0", "get", "{}")),
        ("functions.a.b:12", "{}", True, ToolCall("functions.a.b:12", "a.b", "{}")),
        ("get", "{}", True, ToolCall("get", "get", "{}", CallError.BAD_ID)),
        ("functions.:0", "{}", True, ToolCall("functions.:0", "functions.:0", "{}", CallError.BAD_ID)),
        ("functions.get:0", "{", True, ToolCall("functions.get:0", "get", "{", CallError.BAD_JSON)),
        ("functions.get:0", None, True, ToolCall("functions.get:0", "get", "", CallError.BAD_JSON)),
        ("functions.get:0", "NaN", True, ToolCall("functions.get:0", "get", "NaN", CallError.BAD_JSON)),
        ("functions.get:0", "[1]", True, ToolCall("functions.get:0", "get", "[1]", CallError.NOT_AN_OBJECT)),
        ("functions.get:0", '{"a', False, ToolCall("functions.get:0", "get", '{"a', CallError.TRUNCATED)),
        ("functions.g", None, False, ToolCall("functions.g", "functions.g", "", CallError.TRUNCATED)),
    ],
)
def test_malformed_calls_stay_visible(
    chat: ChatFormat, call_id: str, arguments: str | None, closed: bool, expected: ToolCall
) -> None:
    message = chat.parse(call_ids(chat, call_id, arguments, closed=closed))
    assert message == Message("assistant", "", [expected])


def test_hostile_arguments_are_an_error_not_a_crash(chat: ChatFormat) -> None:
    for arguments in ("[" * 20_000, '{"a":' + "9" * 5_000 + "}"):
        [call] = chat.parse(call_ids(chat, "functions.get:0", arguments)).tool_calls
        assert call.error == CallError.BAD_JSON
        assert call.arguments == arguments


def test_reading_ends_at_the_first_stop(chat: ChatFormat) -> None:
    ids: Sequence[int] = [*chat.tokenizer.encode("yes"), chat.tokenizer.eos_id, *chat.tokenizer.encode("no")]
    assert chat.parse(ids) == Message("assistant", "yes")
    assert chat.stop_ids == {chat.tokenizer.eos_id, chat.tokenizer.special_ids[names.IM_END]}


def test_calls_are_numbered_over_the_whole_dialogue() -> None:
    first = Message("assistant", "", [ToolCall("functions.a:0", "a", "{}"), ToolCall("functions.b:1", "b", "{}")])
    assert next_call_id([], "a") == "functions.a:0"
    assert next_call_id([Message("user", "hi"), first], "a") == "functions.a:2"
