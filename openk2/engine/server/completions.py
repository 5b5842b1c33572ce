"""``/v1/completions``: text or ids continued as they are, without a chat format."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from openk2.engine.request import Drawn
from openk2.engine.server.answers import Answers, Order, Served, side_by_side
from openk2.engine.server.errors import ApiError
from openk2.engine.server.events import EventStream
from openk2.engine.server.logprobs import CompletionLogprobs, joined
from openk2.engine.server.requests import CompletionRequest
from openk2.engine.server.text_stream import TextStream

JSON = dict[str, Any]
_DEFAULT_MAX_TOKENS = 16  # OpenAI's


@dataclass(slots=True, frozen=True)
class Piece:
    """Some more of one choice; the last one has the reason it ended."""

    choice: int
    text: str
    logprobs: JSON | None = None
    finish_reason: str | None = None

    def to_json(self) -> JSON:
        """An entry of ``choices``."""
        return {
            "index": self.choice,
            "text": self.text,
            "logprobs": self.logprobs,
            "finish_reason": self.finish_reason,
        }


async def complete(served: Served, request: CompletionRequest) -> Response:
    """Answer a request. Raises ApiError for what is refused."""
    completion = await asyncio.to_thread(Completion, served, request)  # a long prompt takes a while to encode
    if request.stream:
        chunks = completion.chunks()
        return EventStream(await anext(chunks), chunks)
    return JSONResponse(await completion.whole())


class Completion:
    """One request: its prompts times ``n`` choices, numbered prompt by prompt."""

    def __init__(self, served: Served, request: CompletionRequest) -> None:
        self._served, self._request = served, request
        self._prompts = _prompts(request)
        served.check(request.model, len(self._prompts) * request.num_choices)
        self._max_tokens = _DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
        if self._max_tokens == 0 and not request.echo:
            raise ApiError(400, "max_tokens may only be 0 with echo", param="max_tokens")
        self._ids = [self._encoded(prompt) for prompt in self._prompts]
        self._head = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}

    def _encoded(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            self._served.check_texts([prompt])
        ids = self._served.vocabulary.encode(prompt) if isinstance(prompt, str) else prompt
        self._served.check_ids(ids, room=min(self._max_tokens, 1))
        return ids

    async def whole(self) -> JSON:
        """The answer in one piece."""
        pieces: list[list[Piece]] = [[] for _ in range(len(self._ids) * self._request.num_choices)]
        with self._answers() as answers:
            async for piece in self._pieces(answers):
                pieces[piece.choice].append(piece)
            return {**self._head, "object": "text_completion", "choices": [_merge(p) for p in pieces],
                    "usage": self._usage(answers)}  # fmt: skip

    async def chunks(self) -> AsyncGenerator[JSON, None]:
        """The answer as it comes."""
        options = self._request.stream_options
        with_usage = options is not None and bool(options.include_usage)
        head = {**self._head, "object": "text_completion"}
        with self._answers() as answers:
            async for piece in self._pieces(answers):
                yield {**head, "choices": [piece.to_json()], **({"usage": None} if with_usage else {})}
            if with_usage:
                yield {**head, "choices": [], "usage": self._usage(answers)}

    def _answers(self) -> Answers:
        orders = [Order(ids, sampling) for ids in self._ids for sampling in self._request.sampling(self._max_tokens)]
        return Answers(self._served, orders, top_logprobs=self._request.logprobs or 0)

    def _usage(self, answers: Answers) -> JSON:
        if self._max_tokens:
            return answers.usage(self._request.num_choices)
        num_tokens = sum(map(len, self._ids))
        return {"prompt_tokens": num_tokens, "completion_tokens": 0, "total_tokens": num_tokens}

    async def _pieces(self, answers: Answers) -> AsyncIterator[Piece]:
        choices = range(len(self._ids) * self._request.num_choices)
        trails = [CompletionLogprobs(self._served.vocabulary) for _ in choices]
        if self._request.echo:
            for prompt, ids in enumerate(self._ids):
                scored = None if self._request.logprobs is None else await answers.scored(ids)
                for choice in range(prompt * self._request.num_choices, (prompt + 1) * self._request.num_choices):
                    yield self._echo(choice, ids, scored, trails[choice])
        if self._max_tokens:
            async for piece in side_by_side([self._continued(i, answers, trails[i]) for i in choices]):
                yield piece

    def _echo(self, choice: int, ids: list[int], scored: list[Drawn] | None, trail: CompletionLogprobs) -> Piece:
        prompt = self._prompts[choice // self._request.num_choices]
        text = prompt if isinstance(prompt, str) else self._text(ids)
        logprobs = None if scored is None else joined([trail.first(ids[0]), trail.of(scored)])
        return Piece(choice, text, logprobs, None if self._max_tokens else "length")

    def _text(self, ids: list[int]) -> str:
        return b"".join(map(self._served.vocabulary.bytes_of, ids)).decode("utf-8", "replace")

    async def _continued(self, choice: int, answers: Answers, trail: CompletionLogprobs) -> AsyncIterator[Piece]:
        vocabulary, wants_logprobs = self._served.vocabulary, self._request.logprobs is not None
        stream = TextStream(self._request.stop_texts)
        hidden: list[Drawn] = []  # tokens whose text is not shown yet
        async for drawn in answers.drawn(choice):
            if drawn.token_id in vocabulary.stop_ids:
                continue
            text = stream.push(vocabulary.bytes_of(drawn.token_id))
            hidden.append(drawn)
            if text and not stream.holds:
                yield Piece(choice, text, trail.of(hidden) if wants_logprobs else None)
                hidden = []
            elif text:
                yield Piece(choice, text)
            if stream.stopped:
                answers.generations[choice].abort()
                break
        rest = stream.finish()
        shown = [] if stream.stopped else hidden
        reason = "stop" if stream.stopped else (await answers.generations[choice].result()).stop_reason
        yield Piece(choice, rest, trail.of(shown) if wants_logprobs else None, reason)


def _prompts(request: CompletionRequest) -> list[str] | list[list[int]]:
    """The prompts as a list, whichever of the four shapes they came in."""
    prompt = request.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [[token_id for token_id in prompt if isinstance(token_id, int)]]
    return [*prompt]


def _merge(pieces: list[Piece]) -> JSON:
    parts = [piece.logprobs for piece in pieces if piece.logprobs is not None]
    whole = Piece(
        pieces[0].choice,
        "".join(piece.text for piece in pieces),
        joined(parts) if parts else None,
        pieces[-1].finish_reason,
    )
    return whole.to_json()
