"""``/v1/chat/completions``: the next turn of a dialogue, in one piece or as it is sampled."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import JSONResponse, Response

from openk2.engine.request import Drawn
from openk2.engine.server.answers import Answers, Order, Served, side_by_side
from openk2.engine.server.dialogue import call_id, read_messages, read_tools
from openk2.engine.server.errors import ApiError
from openk2.engine.server.events import EventStream
from openk2.engine.server.grammar import Grammar, GrammarConstraint
from openk2.engine.server.logprobs import chat_logprob
from openk2.engine.server.requests import ChatRequest
from openk2.engine.server.turn_reader import Argued, Called, Closed, Delta, Said, TurnReader
from openk2.engine.server.turn_rules import compile_rules, turn_rules
from openk2.schema import Message
from openk2.text.chat import ChatFormat, call_name

JSON = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Piece:
    """Some more of one choice, as a streamed chunk shows it; the last one has the reason it ended."""

    choice: int
    delta: JSON
    logprobs: list[JSON] | None = None
    finish_reason: str | None = None

    def to_json(self) -> JSON:
        """An entry of a chunk's ``choices``."""
        logprobs = None if self.logprobs is None else {"content": self.logprobs, "refusal": None}
        return {
            "index": self.choice,
            "delta": self.delta,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
        }


async def chat(served: Served, request: ChatRequest) -> Response:
    """Answer a request. Raises ApiError for what is refused."""
    if served.engine.chat_format is None:
        message = f"{served.name} has no chat tokenizer with K2's special tokens: use /v1/completions"
        raise ApiError(400, message, code="no_chat_format")
    served.check(request.model, request.num_choices)
    rules = turn_rules(request)
    grammar = await compile_rules(rules, served)
    # A long dialogue takes a while to encode.
    turn = await asyncio.to_thread(ChatTurn, served, served.engine.chat_format, request, grammar, list(rules.schemas))
    if request.stream:
        chunks = turn.chunks()
        return EventStream(await anext(chunks), chunks)
    return JSONResponse(await turn.whole())


class ChatTurn:
    """One request: ``n`` choices for the next turn of its dialogue."""

    def __init__(
        self,
        served: Served,
        chat_format: ChatFormat,
        request: ChatRequest,
        grammar: Grammar | None,
        schema_names: Sequence[str],
    ) -> None:
        if request.top_logprobs is not None and not request.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs", param="top_logprobs")
        self._served, self._chat_format, self._request = served, chat_format, request
        self._schema_names = schema_names
        messages = read_messages(request.messages)
        self._num_calls = sum(len(message.tool_calls) for message in messages)
        served.check_texts(message.content for message in messages)
        self._ids = chat_format.prompt(messages, read_tools(request.tools or []))
        served.check_ids(self._ids)
        room = served.engine.config.max_context - len(self._ids)
        self._samplings = request.sampling(request.max_completion_tokens or request.max_tokens or room)
        self._constraints = [None if grammar is None else grammar.constraint() for _ in self._samplings]
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}

    async def whole(self) -> JSON:
        """The answer in one piece."""
        readers = [self._reader(choice) for choice in range(len(self._samplings))]
        logprobs: list[list[JSON]] = [[] for _ in readers]
        reasons = [""] * len(readers)
        with self._answers() as answers:
            async for piece in side_by_side([self._pieces(i, answers, readers[i]) for i in range(len(readers))]):
                logprobs[piece.choice] += piece.logprobs or []
                reasons[piece.choice] = piece.finish_reason or reasons[piece.choice]
            usage = answers.usage(len(readers))
        choices = [
            {
                "index": choice,
                "message": self._message(reader.message),
                "logprobs": {"content": logprobs[choice], "refusal": None} if self._request.logprobs else None,
                "finish_reason": reasons[choice],
            }
            for choice, reader in enumerate(readers)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": usage}

    async def chunks(self) -> AsyncGenerator[JSON, None]:
        """The answer as it comes."""
        options = self._request.stream_options
        with_usage = options is not None and bool(options.include_usage)
        head = {**self._head, "object": "chat.completion.chunk"}
        extra: JSON = {"usage": None} if with_usage else {}
        choices = range(len(self._samplings))
        with self._answers() as answers:
            for choice in choices:
                yield {**head, "choices": [Piece(choice, {"role": "assistant", "content": ""}).to_json()], **extra}
            streams = [self._pieces(choice, answers, self._reader(choice)) for choice in choices]
            async for piece in side_by_side(streams):
                yield {**head, "choices": [piece.to_json()], **extra}
            if with_usage:
                yield {**head, "choices": [], "usage": answers.usage(len(choices))}

    def _answers(self) -> Answers:
        both = zip(self._samplings, self._constraints, strict=True)
        orders = [Order(self._ids, sampling, constraint) for sampling, constraint in both]
        return Answers(self._served, orders, top_logprobs=self._request.top_logprobs or 0)

    def _reader(self, choice: int) -> TurnReader:
        return TurnReader(self._chat_format, self._served.vocabulary.bytes_of, stop=self._request.stop_texts)

    async def _pieces(self, choice: int, answers: Answers, reader: TurnReader) -> AsyncIterator[Piece]:
        """One choice: a piece for every token that shows something, and one for the end."""
        writer = _DeltaWriter(self._num_calls)
        hidden: list[Drawn] = []  # tokens whose text is not shown yet
        special = frozenset(self._chat_format.tokenizer.special_ids.values())
        async for drawn in answers.drawn(choice):
            if reader.in_text and drawn.token_id not in special:
                hidden.append(drawn)
            deltas = reader.feed(drawn.token_id)
            shown: list[Drawn] = []
            if not (reader.holds or reader.stopped):
                shown, hidden = hidden, []
            if (delta := writer.write(deltas)) or shown:
                yield Piece(choice, delta, self._logprobs(shown))
            if reader.stopped:
                answers.generations[choice].abort()
                break
        delta, shown = writer.write(reader.finish()), [] if reader.stopped else hidden
        if delta or shown:
            yield Piece(choice, delta, self._logprobs(shown))
        yield Piece(choice, {}, None, await self._finish_reason(choice, answers, reader))

    def _logprobs(self, drawn: list[Drawn]) -> list[JSON] | None:
        if not self._request.logprobs:
            return None
        return [chat_logprob(one, self._served.vocabulary) for one in drawn]

    async def _finish_reason(self, choice: int, answers: Answers, reader: TurnReader) -> str:
        constraint = self._constraints[choice]
        if isinstance(constraint, GrammarConstraint) and constraint.error is not None:
            message = f"{' or '.join(self._schema_names)}: the schema cannot be followed to its end"
            raise ApiError(400, f"{message} [{constraint.error}]", code="invalid_schema")
        if reader.stopped:
            return "stop"
        result = await answers.generations[choice].result()
        if result.stop_reason == "length":
            return "length"
        return "tool_calls" if reader.message.tool_calls else "stop"

    def _message(self, message: Message) -> JSON:
        """A whole turn as OpenAI shows it. Calls that cannot be read carry ``error``."""
        calls = [replace(call, id=call_id(call.name, self._num_calls + i)) for i, call in enumerate(message.tool_calls)]
        content = message.content if message.content or not calls else None
        out: JSON = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            out["tool_calls"] = [call.to_json() for call in calls]
        return out


class _DeltaWriter:
    """What a reader shows, as the ``delta`` of a chunk."""

    def __init__(self, num_calls: int) -> None:
        self._first, self._index = num_calls, -1

    def write(self, deltas: list[Delta]) -> JSON:
        """One delta for what one token showed: text, or changes of calls."""
        content, calls = "", []
        for delta in deltas:
            match delta:
                case Said(text):
                    content += text
                case Called(written):
                    self._index += 1
                    calls.append(self._opening(written))
                case Argued(text):
                    calls.append({"index": self._index, "function": {"arguments": text}})
                case Closed(call) if call.error is not None:
                    calls.append({"index": self._index, "function": {"arguments": ""}, "error": call.error.value})
        return {**({"content": content} if content else {}), **({"tool_calls": calls} if calls else {})}

    def _opening(self, written: str) -> JSON:
        name = call_name(written) or written
        return {
            "index": self._index,
            "id": call_id(name, self._first + self._index),
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
