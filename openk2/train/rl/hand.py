"""The engine as the policy of one episode: what it draws can be looked at, set aside and taken up elsewhere (K2 §3.3, partial rollout)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from openk2.agent import Episode
from openk2.engine.engine import Engine
from openk2.engine.generation import Generation
from openk2.engine.request import Paused
from openk2.schema import JSON, Message, Sampled, Sampling, ToolSpec, Trace


class Hand:
    """A ``Policy`` that plays its ``episode``. ``told`` is how the episode can be taken up elsewhere, as far as that is known."""

    episode: Episode

    def __init__(self, engine: Engine, told: JSON | None) -> None:
        """``told`` is by an earlier process: what it had drawn of the turn under way is gone on with."""
        self._engine = engine
        self._drawn = Sampled(**told["drawn"]) if told is not None and told["drawn"] is not None else None
        self._generation: Generation | None = None
        self._playing: asyncio.Task[Trace] | None = None
        self.told = told

    async def play(self) -> Trace:
        """The episode to its end; one that is given up ends as ``aborted``."""
        self._playing = asyncio.create_task(self.episode.play())
        try:
            return await self._playing
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if waiting is not None and waiting.cancelling():  # and with the one who waits, the episode
                raise
            self.episode.trace.stop_reason = "aborted"
            return self.episode.trace

    def give_up(self) -> None:
        """End the episode where it stands."""
        if self._playing is not None:
            self._playing.cancel()

    @property
    def ended(self) -> bool:
        """The episode has been played to its end."""
        playing = self._playing
        return playing is not None and playing.done() and not playing.cancelled() and playing.exception() is None

    @property
    def oldest_version(self) -> float:
        """Of the weights that drew its first token; infinite while there is none."""
        versions = [s.weight_version for s in self.episode.trace.segments if s.weight_version is not None]
        drawn = self._so_far()
        return min(versions + ([] if drawn is None else _versions(drawn)), default=math.inf)

    def drawn(self) -> JSON | None:
        """What there is of the turn under way, as plain JSON."""
        drawn = self._so_far()
        if drawn is not None and drawn.stop_reason != "abort" and self._engine.config.record_experts:
            drawn = _but_last(drawn)  # the experts of its tokens are known again when one more is drawn
        if drawn is None or not drawn.token_ids:
            return None
        kept = ("token_ids", "logprobs", "stop_reason", "weight_version", "weight_versions")
        return {name: getattr(drawn, name) for name in kept}

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Sampled:
        """Continue the tokens; the first time, from where an earlier process stood."""
        config = self._engine.config
        if self._drawn is not None and self._drawn.stop_reason != "abort":
            whole, self._drawn = self._drawn, None  # it was paused just as the turn had ended
            return whole
        if self._drawn is None:
            self._generation = self._engine.submit(token_ids, sampling, experts=config.record_experts)
        else:
            paused = Paused(
                token_ids=[*token_ids, *self._drawn.token_ids],
                num_given=len(token_ids),
                limit=min(len(token_ids) + sampling.max_tokens, config.max_context),
                sampling=sampling,
                seed=(sampling.seed or 0) % 2**64,
                top_logprobs=0,
                wants_experts=config.record_experts,
                fingerprint="",
            )
            self._generation = self._engine.resume(paused)
        sampled = _joined(self._drawn, await self._generation.result())
        self._generation = self._drawn = None
        return sampled

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        """The next message."""
        return await self._engine.complete(messages, tools, sampling)

    def _so_far(self) -> Sampled | None:
        return self._drawn if self._generation is None else _joined(self._drawn, self._generation.so_far)


def _joined(first: Sampled | None, rest: Sampled) -> Sampled:
    if first is None:
        return rest
    return replace(
        rest,
        token_ids=first.token_ids + rest.token_ids,
        logprobs=first.logprobs + rest.logprobs,
        weight_versions=_versions(first) + _versions(rest),
    )


def _but_last(sampled: Sampled) -> Sampled:
    """The turn before its last token came."""
    return replace(
        sampled,
        token_ids=sampled.token_ids[:-1],
        logprobs=sampled.logprobs[:-1],
        weight_versions=_versions(sampled)[:-1],
        stop_reason="abort",
    )


def _versions(sampled: Sampled) -> list[int]:
    return sampled.weight_versions or [sampled.weight_version] * len(sampled.token_ids)
