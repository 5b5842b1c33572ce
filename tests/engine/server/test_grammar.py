from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

from openk2.engine.server.grammar import CallRule, Grammar, turn_grammar
from openk2.engine.server.vocabulary import Vocabulary
from openk2.schema import Message
from openk2.text import tokenizer as names
from openk2.text.chat import ChatFormat

ORDER = {
    "type": "object",
    "properties": {"order": {"type": "string", "enum": ["K-1", 'é"x']}, "rush": {"type": "boolean"}},
    "required": ["order", "rush"],
    "additionalProperties": False,
}
NOTE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def written(lark: str, vocabulary: Vocabulary, seed: int, most: int = 300) -> list[int]:
    """Ids a model without any sense writes under a grammar; a stop id ends them."""
    rng = random.Random(seed)
    constraint = Grammar(lark, vocabulary).constraint()
    ids: list[int] = []
    while len(ids) < most and not (ids and ids[-1] in vocabulary.stop_ids):
        options = constraint.allowed().nonzero()[0].tolist()
        ends = [i for i in options if i in vocabulary.stop_ids]
        ids.append(rng.choice(ends if ends and rng.random() < 0.3 else options))
        constraint.accept(ids[-1])
    assert constraint.error is None
    return ids


def read(ids: list[int], chat_format: ChatFormat) -> Message:
    return chat_format.parse(ids)


@pytest.mark.parametrize("seed", range(20))
def test_a_section_of_calls_obeys_the_schemas(vocabulary: Vocabulary, chat_format: ChatFormat, seed: int) -> None:
    schemas: Mapping[str, Any] = {"get.order": ORDER, "note": NOTE}
    rules = [CallRule(name, schema) for name, schema in schemas.items()]
    ids = written(turn_grammar(content="none", calls=rules, must_call=True), vocabulary, seed)
    message = read(ids, chat_format)
    assert message.content == ""
    assert message.tool_calls
    for call in message.tool_calls[: None if ids[-1] in vocabulary.stop_ids else -1]:
        assert call.error is None
        jsonschema.validate(json.loads(call.arguments), schemas[call.name])


@pytest.mark.parametrize("seed", range(10))
def test_one_call_alone_where_calls_must_not_be_parallel(
    vocabulary: Vocabulary, chat_format: ChatFormat, seed: int
) -> None:
    lark = turn_grammar(content="none", calls=[CallRule("note", NOTE)], must_call=True, parallel=False)
    assert len(read(written(lark, vocabulary, seed), chat_format).tool_calls) == 1


@pytest.mark.parametrize("seed", range(10))
def test_an_answer_obeys_its_schema(vocabulary: Vocabulary, chat_format: ChatFormat, seed: int) -> None:
    message = read(written(turn_grammar(content=ORDER), vocabulary, seed), chat_format)
    jsonschema.validate(json.loads(message.content), ORDER)
    assert not message.tool_calls


def test_without_calls_no_special_token_but_the_end_can_be_written(vocabulary: Vocabulary) -> None:
    allowed = Grammar(turn_grammar(content="text"), vocabulary).constraint().allowed()
    special = {vocabulary.encode("x")[0]: True}
    assert allowed[[*special]].all()
    for token_id in range(vocabulary.size):
        if vocabulary.bytes_of(token_id).decode("utf-8", "replace") in names.SPECIAL_TOKENS:
            assert allowed[token_id] == (token_id in vocabulary.stop_ids)
    assert not allowed[-8:].any()  # ids beyond the tokenizer


def test_free_arguments_and_text_before_a_call(vocabulary: Vocabulary, chat_format: ChatFormat) -> None:
    constraint = Grammar(turn_grammar(content="text", calls=[CallRule("note", None)]), vocabulary).constraint()
    text = "Let me see." + names.SECTION_BEGIN + names.CALL_BEGIN + "functions.note:7" + names.ARGUMENT_BEGIN + "[oh"
    special = chat_format.tokenizer.special_ids
    ids: list[int] = []
    for piece in text.replace("<|", "\0<|").replace("|>", "|>\0").split("\0"):
        ids += [special[piece]] if piece in special else vocabulary.encode(piece)
    for token_id in [*ids, special[names.CALL_END], special[names.SECTION_END], special[names.IM_END]]:
        assert constraint.allowed()[token_id]
        constraint.accept(token_id)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "nope"}, "Invalid type: nope"),
        ({"$ref": "#/x"}, "does not exist"),
        ({"type": "string", "pattern": "("}, "regex parse error"),
        ({"enum": []}, "Unsatisfiable"),
    ],
)
def test_an_impossible_schema_is_refused_in_the_compilers_words(
    vocabulary: Vocabulary, schema: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Grammar(turn_grammar(content=schema), vocabulary)
