from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.server.turn_reader import Argued, Called, Closed, Delta, Said, TurnReader
from openk2.engine.server.vocabulary import Vocabulary
from openk2.schema import CallError, Message, ToolCall
from openk2.text import tokenizer as names
from openk2.text.chat import ChatFormat

MARKS = (names.SECTION_BEGIN, names.SECTION_END, names.CALL_BEGIN, names.ARGUMENT_BEGIN, names.CALL_END)
TEXTS = ("functions.", "get:", "0", "{", "}", '{"a":1}', "€", "hi ", "[1]")


def read(chat_format: ChatFormat, vocabulary: Vocabulary, ids: list[int]) -> tuple[Message, list[Delta]]:
    reader = TurnReader(chat_format, vocabulary.bytes_of)
    deltas = [delta for token_id in ids for delta in reader.feed(token_id)]
    return reader.message, [*deltas, *reader.finish()]


def turn(chat_format: ChatFormat, message: Message) -> list[int]:
    """What a model samples to say ``message``."""
    header = chat_format.prompt([])
    return chat_format.encode([message]).token_ids[len(header) :]


def test_a_turn_with_two_calls_is_shown_piece_by_piece(chat_format: ChatFormat, vocabulary: Vocabulary) -> None:
    calls = [ToolCall("functions.get:0", "get", '{"a":"€"}'), ToolCall("functions.put:1", "put", "{}")]
    said = Message("assistant", "Let me see.", calls)
    message, deltas = read(chat_format, vocabulary, turn(chat_format, said))
    assert message == said
    assert "".join(delta.text for delta in deltas if isinstance(delta, Said)) == "Let me see."
    assert [delta.id for delta in deltas if isinstance(delta, Called)] == ["functions.get:0", "functions.put:1"]
    assert [delta.call for delta in deltas if isinstance(delta, Closed)] == calls
    argued = [delta.text for delta in deltas if isinstance(delta, Argued)]
    assert len(argued) > 3  # as they come, not at the end
    assert all("�" not in text for text in argued)


def test_a_call_that_is_cut_ends_with_an_error(chat_format: ChatFormat, vocabulary: Vocabulary) -> None:
    whole = turn(chat_format, Message("assistant", "", [ToolCall("functions.get:0", "get", '{"a":1}')]))
    message, deltas = read(chat_format, vocabulary, whole[:-4])
    assert message.tool_calls[0].error is CallError.TRUNCATED
    assert isinstance(deltas[-1], Closed)


@st.composite
def turns(draw: st.DrawFn, vocabulary: Vocabulary, chat_format: ChatFormat) -> list[int]:
    special = chat_format.tokenizer.special_ids
    mark = st.sampled_from(MARKS).map(lambda name: [special[name]])
    text = st.sampled_from(TEXTS).map(chat_format.tokenizer.encode)
    anything = st.integers(0, vocabulary.size - 1).map(lambda token_id: [token_id])
    return [i for ids in draw(st.lists(mark | text | anything, max_size=24)) for i in ids]


@settings(max_examples=600)
@given(st.data())
def test_any_ids_read_as_the_reference_reads_them(
    chat_format: ChatFormat, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    ids = data.draw(turns(vocabulary, chat_format))
    message, deltas = read(chat_format, vocabulary, ids)
    reference = chat_format.parse(ids)
    assert message == reference
    assert "".join(delta.text for delta in deltas if isinstance(delta, Said)) == reference.content
    assert [delta.id for delta in deltas if isinstance(delta, Called)] == [call.id for call in reference.tool_calls]
    assert [delta.call for delta in deltas if isinstance(delta, Closed)] == reference.tool_calls
    whole = "".join(delta.text for delta in deltas if isinstance(delta, Argued))
    assert whole == "".join(call.arguments for call in reference.tool_calls)


def test_a_stop_text_ends_content_and_arguments_but_no_id(chat_format: ChatFormat, vocabulary: Vocabulary) -> None:
    ids = turn(chat_format, Message("assistant", "one", [ToolCall("functions.get:0", "get", json.dumps({"b": "get"}))]))
    reader = TurnReader(chat_format, vocabulary.bytes_of, stop=("get",))
    deltas = [delta for token_id in ids for delta in reader.feed(token_id)]
    assert reader.done
    assert "".join(delta.text for delta in deltas if isinstance(delta, Argued)) == '{"b": "'
