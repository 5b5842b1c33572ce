"""An assistant's turn read as it is sampled: text, and the tool calls in it (K2 §3.1).

The streaming twin of `ChatFormat.parse`: fed the same ids, ``message`` is what ``parse`` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from openk2.engine.server.text_stream import TextStream
from openk2.schema import Message, ToolCall
from openk2.text import tokenizer as names
from openk2.text.chat import ChatFormat, read_call


@dataclass(slots=True, frozen=True)
class Said:
    """More of the text outside calls."""

    text: str


@dataclass(slots=True, frozen=True)
class Called:
    """A call begins: its id is complete."""

    id: str


@dataclass(slots=True, frozen=True)
class Argued:
    """More of the arguments of the last call."""

    text: str


@dataclass(slots=True, frozen=True)
class Closed:
    """The last call ends, whole or with an ``error``."""

    call: ToolCall


Delta = Said | Called | Argued | Closed


class TurnReader:
    """Feed it ids one by one; each gives what can be shown for certain.

    Three states: outside calls, in the id of a call, in its arguments. ``done`` is True after a stop id
    or a stop text (then ``stopped`` too); what follows is ignored.
    """

    def __init__(self, chat_format: ChatFormat, bytes_of: Callable[[int], bytes], *, stop: Sequence[str] = ()) -> None:
        special = chat_format.tokenizer.special_ids
        self.message = Message("assistant")
        self.done = False
        self.stopped = False
        self._stop_ids, self._bytes_of, self._stop = chat_format.stop_ids, bytes_of, tuple(stop)
        self._call_begin, self._call_end = special[names.CALL_BEGIN], special[names.CALL_END]
        self._argument_begin = special[names.ARGUMENT_BEGIN]
        self._section = (special[names.SECTION_BEGIN], special[names.SECTION_END])
        self._text = TextStream(self._stop)
        self._call_id: str | None = None  # of the open call; "" until it is complete
        self._arguments: list[str] | None = None  # of the open call, once its id is complete

    @property
    def in_text(self) -> bool:
        """Whether the next id that is no special token is text outside calls."""
        return self._call_id is None

    @property
    def holds(self) -> bool:
        """Whether some text is held back."""
        return self._text.holds

    def feed(self, token_id: int) -> list[Delta]:
        """What is certain after one more id."""
        return [] if self.done else list(self._read(token_id))

    def finish(self) -> list[Delta]:
        """What was held back, when nothing more comes; a call still open is cut."""
        if self.done:
            return []
        self.done = True
        return [*self._flush(), *self._close(closed=False)]

    def _read(self, token_id: int) -> Iterator[Delta]:
        in_id = self._call_id is not None and self._arguments is None
        if token_id in self._stop_ids:
            yield from self.finish()
        elif token_id == self._call_begin or token_id in self._section:
            yield from self._flush()
            yield from self._close(closed=False)
            if token_id == self._call_begin:
                self._call_id, self._text = "", TextStream()  # stop texts are no business of ids
        elif token_id == self._call_end and self._call_id is not None:
            yield from self._flush()
            yield from self._close(closed=True)
        elif token_id == self._argument_begin and in_id:
            yield from self._flush()
        else:
            yield from self._show(self._text.push(self._bytes_of(token_id)))
            if self._text.stopped:
                self.stopped = True
                yield from self.finish()

    def _show(self, text: str) -> Iterator[Delta]:
        if not text:
            return
        if self._call_id is None:
            self.message.content += text
            yield Said(text)
        elif self._arguments is None:
            self._call_id += text
        else:
            self._arguments.append(text)
            yield Argued(text)

    def _flush(self) -> Iterator[Delta]:
        """End the text that runs; an id that ends is complete."""
        yield from self._show(self._text.finish())
        if self._call_id is not None and self._arguments is None:
            self._arguments, self._text = [], TextStream(self._stop)
            yield Called(self._call_id)

    def _close(self, *, closed: bool) -> Iterator[Delta]:
        if self._call_id is None:
            return
        call = read_call([self._call_id, *(self._arguments or [])], closed=closed)
        self.message.tool_calls.append(call)
        self._call_id, self._arguments, self._text = None, None, TextStream(self._stop)
        yield Closed(call)
