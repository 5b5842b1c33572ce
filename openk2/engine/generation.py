"""A request on its way: its tokens as they are drawn, its result, and how to stop it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from openk2.engine.request import Drawn, Paused, Request
from openk2.schema import Sampled


class Generation:
    """What ``Engine.submit`` returns. Belongs to the event loop it was made in."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._news = asyncio.Event()
        self._done: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self._request.prompt)

    @property
    def num_cached_tokens(self) -> int:
        """Those of them that the cache knew already. Settled before the first token."""
        return self._request.num_cached

    @property
    def so_far(self) -> Sampled:
        """The result, or what an ``abort`` would give at this moment."""
        request = self._request
        if request.result is not None:
            return request.result
        ids, logprobs = [drawn.token_id for drawn in request.drawn], [drawn.logprob for drawn in request.drawn]
        return Sampled(ids, logprobs, "abort", weight_versions=list(request.weight_versions))

    async def __aiter__(self) -> AsyncIterator[Drawn]:
        """Each token as it is drawn, from the first; ends with the request. Raises as ``result``."""
        seen = 0
        while True:
            self._news.clear()
            while seen < len(self._request.drawn):
                yield self._request.drawn[seen]
                seen += 1
            if self._done.done():
                self._done.result()
                return
            await self._news.wait()

    async def result(self) -> Sampled:
        """Wait for the end. If the waiting task is cancelled, so is the request.

        Raises EngineError when the engine fails, FloatingPointError when the logits are not finite, and what the
        request's own constraint raises.
        """
        try:
            return await asyncio.shield(self._done)
        finally:
            if not self._done.done():
                self.abort()

    def abort(self) -> None:
        """End it before the next round: the result is what was drawn, for reason ``abort``. Does nothing after the end."""
        self._request.cancelled = True

    async def pause(self, *, keep_latents: bool = True) -> Paused:
        """Abort, and return what ``Engine.resume`` goes on from.

        Args:
            keep_latents: take what was computed along, for a resume without the cache (another process).

        Raises:
            ValueError: it has ended already, or follows a grammar, which cannot be set aside.
        """
        request = self._request
        if request.constraint is not None:
            raise ValueError("a request that follows a grammar cannot be paused")
        request.keep_latents = keep_latents
        self.abort()
        if (await self._done).stop_reason != "abort":
            raise ValueError("the request has ended: there is nothing to pause")
        return Paused(
            token_ids=request.tokens.tolist(),
            num_given=request.num_given,
            limit=request.limit,
            sampling=request.sampling,
            seed=request.seed,
            top_logprobs=request.top_logprobs,
            wants_experts=request.wants_experts,
            fingerprint=request.fingerprint,
            latents_NTL=request.latents_NTL,
        )

    # -- for the engine -----------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where it belongs."""
        return self._done.get_loop()

    def tell(self) -> None:
        """The request has something new."""
        self._news.set()
        if self._done.done() or self._request.result is None:
            return
        if self._request.error is not None:
            self.fail(self._request.error)
        else:
            self._done.set_result(self._request.result)

    def fail(self, error: Exception) -> None:
        """It will not go on. Whoever waits gets ``error``."""
        self._news.set()
        if not self._done.done():
            self._done.set_exception(error)
            self._done.exception()  # nobody need wait for it
