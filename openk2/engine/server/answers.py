"""The answers to one request while they are sampled: let in, given a time limit, read side by side, and freed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from openk2.engine.engine import Engine
from openk2.engine.generation import Generation
from openk2.engine.request import Constraint, Drawn
from openk2.engine.server.config import ServerConfig
from openk2.engine.server.errors import ApiError
from openk2.engine.server.metrics import Metrics
from openk2.engine.server.vocabulary import Vocabulary
from openk2.schema import Sampling

Item = TypeVar("Item")
JSON = dict[str, Any]


@dataclass(slots=True)
class Served:
    """A model and the name it goes by.

    ``num_admitted`` counts answers that run or wait for a slot; ``draining`` says that no new ones are taken.
    """

    name: str
    engine: Engine
    vocabulary: Vocabulary
    config: ServerConfig
    metrics: Metrics
    num_admitted: int = 0
    draining: bool = False

    def check(self, model: str, num_answers: int) -> None:
        """Raise ApiError for another model's name, or more answers than one request may ask for."""
        if model != self.name:
            message = f"the model {model!r} does not exist; this server has {self.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
        if num_answers > self.config.max_choices:
            most = self.config.max_choices
            raise ApiError(400, f"a request may ask for {most} answers, this one asks for {num_answers}", param="n")

    def check_ids(self, token_ids: Sequence[int], room: int = 1) -> None:
        """Raise ApiError unless a prompt leaves ``room`` tokens of the context, and its ids exist."""
        self._check_length(len(token_ids), room, "")
        if max(token_ids) >= self.vocabulary.size:
            raise ApiError(400, f"token ids must be below {self.vocabulary.size}, got {max(token_ids)}", param="prompt")

    def check_texts(self, texts: Iterable[str]) -> None:
        """Raise ApiError for a prompt of texts that cannot fit the context, without the work of encoding them."""
        self._check_length(self.vocabulary.fewest_ids(sum(map(len, texts))), 0, "at least ")

    def _check_length(self, num_tokens: int, room: int, words: str) -> None:
        most = self.engine.config.max_context
        if num_tokens + room > most:
            message = f"the prompt has {words}{num_tokens} tokens; the model's context holds {most}, answer included"
            raise ApiError(400, message, code="context_length_exceeded")


class Order(NamedTuple):
    """One answer to be sampled; with ``max_tokens`` 0 its prompt is only scored."""

    token_ids: Sequence[int]
    sampling: Sampling
    constraint: Constraint | None = None


class Answers:
    """A context in which the answers are sampled; leaving it frees their slots, whatever became of them.

    Raises ApiError on entry: 429 when too many wait already, 400 for what cannot be sampled.
    """

    def __init__(self, served: Served, orders: Sequence[Order], *, top_logprobs: int = 0) -> None:
        self.generations: list[Generation] = []
        self._served, self._orders, self._top_logprobs = served, orders, top_logprobs
        self._timed_out = False
        self._num_drawn = 0
        self._started = time.perf_counter()

    def __enter__(self) -> Answers:
        """Submit all of them."""
        served = self._served
        if served.num_admitted + len(self._orders) > served.engine.config.max_rows + served.config.max_queue:
            message = f"{served.num_admitted} answers are being sampled or wait already; try again later"
            raise ApiError(429, message, code="queue_full", headers={"Retry-After": "1"})
        served.num_admitted += len(self._orders)
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + served.config.request_seconds
        self._timer = loop.call_at(self._deadline, self._time_out)
        try:
            for ids, sampling, constraint in self._orders:
                if sampling.max_tokens:
                    generation = served.engine.submit(
                        ids, sampling, top_logprobs=self._top_logprobs, constraint=constraint
                    )
                    self.generations.append(generation)
        except Exception as error:
            self.__exit__(None, None, None)
            if isinstance(error, ValueError):  # the engine's own words for what cannot be sampled
                raise ApiError(400, str(error)) from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort what still runs."""
        self._timer.cancel()
        for generation in self.generations:
            generation.abort()
        self._served.num_admitted -= len(self._orders)

    def _time_out(self) -> None:
        self._timed_out = True
        for generation in self.generations:
            generation.abort()

    async def drawn(self, choice: int) -> AsyncIterator[Drawn]:
        """The tokens of one answer as they are drawn. Raises TimeoutError past the time limit."""
        first = True
        async for drawn in self.generations[choice]:
            if first:
                self._served.metrics.first_token_seconds.observe(time.perf_counter() - self._started)
                first = False
            self._num_drawn += 1
            yield drawn
        if self._timed_out:
            raise TimeoutError

    async def scored(self, token_ids: Sequence[int]) -> list[Drawn]:
        """A prompt's own tokens. Raises TimeoutError past the time limit, which is one for the whole request."""
        async with asyncio.timeout_at(self._deadline):
            return await self._served.engine.score_prompt(token_ids, self._top_logprobs)

    def usage(self, num_choices: int) -> JSON:
        """What has been read and written; every prompt counts once for its ``num_choices`` answers."""
        firsts = self.generations[::num_choices]
        prompt = sum(generation.num_prompt_tokens for generation in firsts)
        cached = sum(generation.num_cached_tokens for generation in firsts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._num_drawn,
            "total_tokens": prompt + self._num_drawn,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


async def side_by_side(streams: Sequence[AsyncIterator[Item]]) -> AsyncIterator[Item]:
    """The items of all streams in the order they come. The first failure ends it; leaving ends the streams."""
    arrived: asyncio.Queue[Item | asyncio.Task[None]] = asyncio.Queue()

    async def pump(stream: AsyncIterator[Item]) -> None:
        async for item in stream:
            arrived.put_nowait(item)

    pumps = [asyncio.create_task(pump(stream)) for stream in streams]
    for task in pumps:
        task.add_done_callback(arrived.put_nowait)
    num_open = len(pumps)
    try:
        while num_open:
            item = await arrived.get()
            if isinstance(item, asyncio.Task):
                item.result()
                num_open -= 1
            else:
                yield item
    finally:
        for task in pumps:
            task.cancel()
