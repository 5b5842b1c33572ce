"""What a model may write, as a grammar (llguidance): tool calls by their schemas, JSON answers, or text alone.

Shapes: V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

from openk2.engine.server.vocabulary import Vocabulary
from openk2.text import tokenizer as names

Schema = Mapping[str, Any]
_ANY_TEXT = r"/(.|\n)*/"
_TRIED_TOKENS = 4  # schemas without an end, or too large, show it after one or two
# Without it a small model may write spaces for ever. K2's calls are written compactly too.
_COMPACT = {"x-guidance": {"whitespace_flexible": False}}


@dataclass(slots=True, frozen=True)
class CallRule:
    """A tool that may be called. ``arguments`` is their schema; None leaves them free."""

    name: str
    arguments: Schema | None


def turn_grammar(
    *,
    content: Schema | Literal["text", "none"],
    calls: Sequence[CallRule] = (),
    must_call: bool = False,
    parallel: bool = True,
) -> str:
    """The grammar (Lark) of one assistant turn.

    Args:
        content: a JSON schema, or any text, or nothing but calls.
        calls: tools that may be called; without any, the tool-call tokens cannot be written.
        must_call: whether a section of calls has to come.
        parallel: whether the section may hold more than one call.
    """
    rules = []
    if content == "text":
        rules.append(f"content: {_ANY_TEXT}")
    elif content != "none":
        rules.append(f"content: {_json(content)}")
    if calls:
        repeat = "+" if parallel else ""
        options = " | ".join(f"call_{i}" for i in range(len(calls)))
        rules.append(f"section: <{names.SECTION_BEGIN[1:-1]}> call{repeat} <{names.SECTION_END[1:-1]}>")
        rules.append(f"call: <{names.CALL_BEGIN[1:-1]}> ({options}) <{names.CALL_END[1:-1]}>")
        rules.append("IDX: /[0-9]{1,4}/")  # the server counts calls itself
    for i, call in enumerate(calls):
        opening = json.dumps(f"functions.{call.name}:")
        rules.append(f"call_{i}: {opening} IDX <{names.ARGUMENT_BEGIN[1:-1]}> arguments_{i}")
        rules.append(f"arguments_{i}: {_ANY_TEXT if call.arguments is None else _json(call.arguments)}")
    return "\n".join([f"start: {_start(content, bool(calls), must_call)}", *rules])


def _start(content: Schema | Literal["text", "none"], can_call: bool, must_call: bool) -> str:
    if content == "none":
        return "section"
    if content == "text":
        return "content section" if must_call else "content section?" if can_call else "content"
    return "content | section" if can_call else "content"  # an answer in JSON, or calls on the way to it


def _json(schema: Schema) -> str:
    return f"%json {json.dumps({**schema, **_COMPACT})}"


class Grammar:
    """A compiled grammar. Raises ValueError, with the compiler's words, for one that cannot be."""

    def __init__(self, lark: str, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._matcher = LLMatcher(vocabulary.for_grammars, LLMatcher.grammar_from_lark(lark), log_level=0)
        if self._matcher.is_error():
            raise ValueError(_first_words(self._matcher.get_error()))

    def constraint(self) -> GrammarConstraint:
        """A fresh reader of it, for one answer."""
        return GrammarConstraint(self._matcher.deep_copy(), self._vocabulary)


def check_schema(name: str, schema: Schema, vocabulary: Vocabulary) -> None:
    """Raise ValueError, naming the schema, for one that cannot be compiled or breaks as soon as it is followed."""
    try:
        constraint = Grammar(turn_grammar(content=schema), vocabulary).constraint()
    except ValueError as error:
        raise ValueError(f"{name}: this schema cannot be used [{error}]") from None
    for _ in range(_TRIED_TOKENS):
        token_id = int(constraint.allowed().argmax())
        if constraint.error is not None:
            message = "this schema is too large, or refers to itself without an end"
            raise ValueError(f"{name}: {message} [{constraint.error}]")
        if token_id in vocabulary.stop_ids:
            return
        constraint.accept(token_id)


class GrammarConstraint:
    """The engine's ``Constraint``: which ids the grammar allows next.

    A grammar that grows too complex on the way allows nothing but the end, and ``error`` says so.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary
        self.error: str | None = None

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Ids that may come next, [V]."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed_V = np.unpackbits(bits, count=self._vocabulary.size, bitorder="little").astype(bool)
        if self._matcher.is_error() or not allowed_V.any():
            self.error = self.error or _first_words(self._matcher.get_error()) or "the grammar has come to a dead end"
            allowed_V = np.zeros(self._vocabulary.size, dtype=bool)
            allowed_V[list(self._vocabulary.stop_ids)] = True
        return allowed_V

    def accept(self, token_id: int) -> None:
        """Go on after ``token_id``."""
        if self.error is None:
            self._matcher.consume_token(token_id)


def _first_words(message: str) -> str:
    """The line of a compiler's report that says what is wrong."""
    line = message.strip().split("\n")[0]
    return line.split("failed to compile JSON schema: ")[-1]
