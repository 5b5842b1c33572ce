"""A chat model behind an OpenAI-compatible URL: asked at its pace, again where that helps, never twice for one thing.

Answers come in one piece: a stream costs a parse per token and tells a batch of calls nothing sooner. A connection that
breaks within an answer is noticed either way.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Sequence
from random import Random
from types import TracebackType

try:
    import httpx2
    import openai
except ImportError as error:
    raise ImportError("asking an endpoint needs OpenAI's client: pip install 'openk2[llm]'") from error

from openk2.llm.cache import Cache, key_of
from openk2.llm.config import EndpointConfig
from openk2.llm.counters import Counters
from openk2.llm.trouble import Reason, Trouble, pause_s, reason_of_status, retry_after
from openk2.llm.window import Window
from openk2.llm.wire import Answer, read_answer, request_body
from openk2.schema import JSON, Message, Sampling, ToolSpec

LANE = 16  # requests in flight to a pool of connections, about
SPENT = "insufficient_quota"  # OpenAI's code of a 429 that no waiting mends


class EndpointError(Exception):
    """A call that got no answer: refused for good, or failed at every attempt."""


class Endpoint:
    """A ChatModel over HTTP. Belongs to the event loop that first uses it; use it in ``async with``."""

    def __init__(self, config: EndpointConfig) -> None:
        """Sends nothing yet. Raises ValueError for a key that is not in the environment or a file that is no cache."""
        self.config = config
        self.counters = Counters()
        self._key = _read_key(config)
        self._cache = Cache(config.cache) if config.cache is not None else None
        self._window = Window(config.max_in_flight)
        self._rng = Random()  # spreads waits; no result depends on it
        self._clients = _make_clients(config, self._key or "none")
        self._lanes = itertools.cycle(self._clients)

    async def complete(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        *,
        response_format: JSON | None = None,
    ) -> Message:
        """The next assistant message; malformed tool calls stay in it with their typed error.

        Equal requests share one cached answer: draws that should differ take different seeds.
        Raises TimeoutError when the call's time is over, EndpointError when the endpoint refuses or keeps failing.
        """
        body = request_body(self.config, messages, tools, sampling)
        if response_format is not None:
            body["response_format"] = response_format
        if self._cache is None:
            return read_answer(await self._ask(body)).message
        key = key_of(body)
        kept = self._cache.get(key)
        if kept is None:
            kept = await self._ask(body)
            self._cache.put(key, kept)
        else:
            self.counters.cached += 1
        return read_answer(kept).message

    async def _ask(self, body: JSON) -> object:
        """The answer's body, counted."""
        try:
            raw, answer = await self._persist(body)
        except (EndpointError, TimeoutError):
            self.counters.failed += 1
            raise
        self.counters.answered += 1
        self.counters.prompt_tokens += answer.prompt_tokens
        self.counters.completion_tokens += answer.completion_tokens
        return raw

    async def _persist(self, body: JSON) -> tuple[object, Answer]:
        """Attempt until an answer comes, the attempts are spent, or the time is over."""
        config, clock = self.config, asyncio.get_running_loop().time
        troubles: list[Trouble] = []
        try:
            async with asyncio.timeout(config.queue_s) as limit:
                await self._window.enter(urgent=False)
                limit.reschedule(clock() + config.call_s)
                while True:
                    try:
                        return await self._attempt(body)
                    except Trouble as trouble:
                        troubles.append(trouble)
                    finally:
                        self._window.leave()
                    if len(troubles) == config.max_attempts:
                        raise EndpointError(f"{self._name}: every attempt failed ({_tell(troubles)})")
                    self.counters.retried[troubles[-1].reason.value] += 1
                    pause = pause_s(len(troubles), troubles[-1], config.backoff_s, config.longest_backoff_s, self._rng)
                    await asyncio.sleep(pause)
                    await self._window.enter(urgent=True)
        except TimeoutError:
            limits = f"{config.queue_s:g} s for a turn, then {config.call_s:g} s"
            raise TimeoutError(f"{self._name}: no answer in time ({limits}; {_tell(troubles)})") from None

    async def _attempt(self, body: JSON) -> tuple[object, Answer]:
        """Send once. Raises Trouble for what may pass, EndpointError for what will not."""
        clock = asyncio.get_running_loop().time
        began = clock()
        self.counters.asked += 1
        try:
            async with asyncio.timeout(self.config.attempt_s):
                # cast_to=object: the JSON as it came. The SDK's own models would cost more than all the rest here.
                raw = await next(self._lanes).post("/chat/completions", body=body, cast_to=object)
            answer = read_answer(raw)
        except openai.APIStatusError as error:
            trouble = self._read_status(error)
            if trouble.reason is Reason.RATE_LIMITED:
                self._window.shrink(began, clock())
            raise trouble from None
        except (TimeoutError, openai.APITimeoutError):
            raise Trouble(Reason.TIMED_OUT, f"nothing whole within {self.config.attempt_s:g} s") from None
        except openai.APIConnectionError as error:
            raise Trouble(Reason.CUT, str(error.__cause__ or error)) from error
        except ValueError as error:
            raise Trouble(Reason.BAD_BODY, str(error)) from error
        self._window.grow()
        return raw, answer

    def _read_status(self, error: openai.APIStatusError) -> Trouble:
        """What a status means. Raises EndpointError for one that would come again."""
        # Some servers repeat the key in what they say about it: no message and no traceback may.
        said = str(error).replace(self._key, "…") if self._key else str(error)
        reason = reason_of_status(error.status_code)
        if reason is None or error.code == SPENT:
            raise EndpointError(f"{self._name} refused: {said[:500]}") from None
        return Trouble(reason, said[:500], retry_after(error.response.headers))

    @property
    def _name(self) -> str:
        return f"{self.config.model} at {self.config.base_url}"

    async def close(self) -> None:
        """Close connections and cache."""
        for client in self._clients:
            await client.close()
        if self._cache is not None:
            self._cache.close()

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


def _make_clients(config: EndpointConfig, key: str) -> list[openai.AsyncOpenAI]:
    """Clients to take in turn. httpx looks at every connection of a pool for every request: small pools cost less."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=2 * LANE)
    certificates = httpx2.create_ssl_context()
    return [
        openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=key,
            max_retries=0,
            timeout=config.attempt_s,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits, verify=certificates),
        )
        for _ in range(-(-config.max_in_flight // LANE))
    ]


def _read_key(config: EndpointConfig) -> str:
    if not config.api_key_env:
        return ""
    key = os.environ.get(config.api_key_env, "")
    if not key:
        raise ValueError(f"{config.api_key_env} is not set: it holds the key of {config.base_url}")
    return key


def _tell(troubles: Sequence[Trouble]) -> str:
    if not troubles:
        return "no attempt had ended"
    counts = Counter(trouble.reason.value for trouble in troubles)
    return f"{', '.join(f'{count} {reason}' for reason, count in counts.most_common())}; the last: {troubles[-1]}"
