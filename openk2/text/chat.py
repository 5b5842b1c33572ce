"""K2's chat format (K2 §3.1, the released chat template): messages to ids with a loss mask, and back.

A turn is ``<|im_ROLE|>name<|im_middle|>text<|im_end|>``. Tools come first, as a system turn named
``tool_declare``; a tool's result is a system turn named ``tool``. An assistant's calls follow its text in
one section, each as ``<|tool_call_begin|>functions.NAME:IDX<|tool_call_argument_begin|>{json}<|tool_call_end|>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from openk2.schema import CallError, Message, ToolCall, ToolSpec
from openk2.text import tokenizer as names
from openk2.text.tokenizer import Tokenizer

_ROLE_TOKENS = {
    "system": names.IM_SYSTEM,
    "tool": names.IM_SYSTEM,
    "user": names.IM_USER,
    "assistant": names.IM_ASSISTANT,
}
_CALL_ID = re.compile(r"functions\.(\S+):[0-9]+")


@dataclass(slots=True)
class Encoded:
    """A dialogue as ids. ``loss_mask`` marks what the assistant writes, its ``<|im_end|>`` included."""

    token_ids: list[int]
    loss_mask: list[bool]


class _Piece(NamedTuple):
    """Either one special token or a text without any."""

    text: str
    special: bool
    loss: bool


class ChatFormat:
    """Write dialogues as ids for a tokenizer, and read what a model sampled."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        special = tokenizer.special_ids
        self.stop_ids: frozenset[int] = frozenset({special[names.IM_END], special[names.EOS]})
        self._im_end = special[names.IM_END]
        self._section_begin = special[names.SECTION_BEGIN]
        self._section_end = special[names.SECTION_END]
        self._call_begin = special[names.CALL_BEGIN]
        self._argument_begin = special[names.ARGUMENT_BEGIN]
        self._call_end = special[names.CALL_END]

    def encode(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> Encoded:
        """A whole dialogue, every turn closed."""
        return self._to_ids([*_declaration(tools), *_turns(messages)])

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """A dialogue up to and with the assistant's header: ready to sample."""
        return self._to_ids([*_declaration(tools), *_turns(messages), *_header("assistant", "assistant")]).token_ids

    def extend(self, token_ids: Sequence[int], new_messages: Sequence[Message]) -> list[int]:
        """What to append after a sampled turn: its ``<|im_end|>`` if it lacks one, new turns, the next header.

        ``token_ids`` is the sampled turn, or everything up to its end; only the last id is looked at.
        """
        close = [] if token_ids and token_ids[-1] == self._im_end else [self._im_end]
        return close + self.prompt(new_messages)

    def parse(self, sampled_ids: Sequence[int]) -> Message:
        """The assistant message in what was sampled after the header; any ids will do.

        Reading ends at the first stop id. A call that is cut or wrong stays in ``tool_calls`` with an
        ``error``, its text as written in ``id`` (also ``name``, when the id names none) and ``arguments``.
        Text outside calls is content; special tokens out of place show as their names.
        """
        content: list[str] = []
        calls: list[ToolCall] = []
        call: list[str] | None = None  # the open call: [id] or [id, arguments]
        run: list[int] = []  # ids not yet decoded

        def flush() -> None:
            text = self.tokenizer.decode(run)
            run.clear()
            if call is None:
                content.append(text)
            else:
                call.append(text)

        for token_id in sampled_ids:
            if token_id in self.stop_ids:
                break
            in_id = call is not None and not call
            if token_id in (self._call_begin, self._section_begin, self._section_end):
                flush()
                if call is not None:
                    calls.append(read_call(call, closed=False))
                call = [] if token_id == self._call_begin else None
            elif token_id == self._call_end and call is not None:
                flush()
                calls.append(read_call(call, closed=True))
                call = None
            elif token_id == self._argument_begin and in_id:
                flush()
            else:
                run.append(token_id)
        flush()
        if call is not None:
            calls.append(read_call(call, closed=False))
        return Message("assistant", "".join(content), calls)

    def _to_ids(self, pieces: Sequence[_Piece]) -> Encoded:
        special_ids = self.tokenizer.special_ids
        encoded = Encoded([], [])
        for piece in pieces:
            ids = [special_ids[piece.text]] if piece.special else self.tokenizer.encode(piece.text)
            encoded.token_ids.extend(ids)
            encoded.loss_mask.extend([piece.loss] * len(ids))
        return encoded


def next_call_id(messages: Iterable[Message], name: str) -> str:
    """The id of the next call of a dialogue, ``functions.NAME:IDX``: IDX counts all its calls from 0."""
    return f"functions.{name}:{sum(len(message.tool_calls) for message in messages)}"


def _declaration(tools: Sequence[ToolSpec]) -> list[_Piece]:
    if not tools:
        return []
    text = json.dumps([tool.to_json() for tool in tools], separators=(",", ":"), ensure_ascii=False)
    return [
        *_header("system", "tool_declare"),
        _Piece(f"# Tools\n{text}", special=False, loss=False),
        _Piece(names.IM_END, special=True, loss=False),
    ]


def _turns(messages: Sequence[Message]) -> list[_Piece]:
    pieces: list[_Piece] = []
    for message in messages:
        loss = message.role == "assistant"
        name = "tool" if message.role == "tool" else message.name or message.role
        text = message.content
        if message.role == "tool":
            text = f"## Return of {message.tool_call_id}\n{text}"
        pieces += _header(message.role, name)
        pieces.append(_Piece(text, special=False, loss=loss))
        pieces += _calls(message.tool_calls)
        pieces.append(_Piece(names.IM_END, special=True, loss=loss))
    return pieces


def _header(role: str, name: str) -> list[_Piece]:
    return [
        _Piece(_ROLE_TOKENS[role], special=True, loss=False),
        _Piece(name, special=False, loss=False),
        _Piece(names.IM_MIDDLE, special=True, loss=False),
    ]


def _calls(calls: Sequence[ToolCall]) -> list[_Piece]:
    if not calls:
        return []
    pieces = [_Piece(names.SECTION_BEGIN, special=True, loss=True)]
    for call in calls:
        pieces.append(_Piece(names.CALL_BEGIN, special=True, loss=True))
        pieces.append(_Piece(call.id, special=False, loss=True))
        pieces.append(_Piece(names.ARGUMENT_BEGIN, special=True, loss=True))
        pieces.append(_Piece(call.arguments, special=False, loss=True))
        if call.error != CallError.TRUNCATED:
            pieces.append(_Piece(names.CALL_END, special=True, loss=True))
    return [*pieces, _Piece(names.SECTION_END, special=True, loss=True)]


def call_name(call_id: str) -> str | None:
    """The tool that ``functions.NAME:IDX`` names; None for any other text."""
    match = _CALL_ID.fullmatch(call_id)
    return match[1] if match else None


def read_call(texts: Sequence[str], *, closed: bool) -> ToolCall:
    """A call from its id and, where it got that far, the parts of its arguments; what is wrong is its ``error``."""
    call_id, arguments = texts[0], "".join(texts[1:])
    name = call_name(call_id)
    error: CallError | None
    if not closed:
        error = CallError.TRUNCATED
    elif name is None:
        error = CallError.BAD_ID
    else:
        error = _arguments_error(arguments)
    return ToolCall(call_id, call_id if name is None else name, arguments, error)


def _arguments_error(arguments: str) -> CallError | None:
    try:
        value = json.loads(arguments, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # also numbers too long to read, and nesting without end
        return CallError.BAD_JSON
    return None if isinstance(value, dict) else CallError.NOT_AN_OBJECT


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
