"""The episodes of a service: begun, called one call at a time, closed when done, broken or idle, and counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from openk2.agent import EnvFailedError
from openk2.gym.service.config import ServiceConfig
from openk2.gym.service.wire import WrongTypeError
from openk2.jobs.hold import HeldError, HoldLimit
from openk2.schema import Env, ToolSpec

T = TypeVar("T")


class RefusedError(Exception):
    """A request that is not carried out: an HTTP status, and a line that says why."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status


@dataclass(slots=True, eq=False)
class Episode:
    """One of them. ``answer`` is what call ``number`` brought, for a client that did not get it and asks again."""

    id: str
    used_at: float
    made: Env | None = None
    number: int = -1
    answer: bytes = b""
    tools: list[ToolSpec] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: asyncio.Task[bytes] | None = None

    @property
    def env(self) -> Env:
        """Its environment, which call 0 makes."""
        assert self.made is not None, f"episode {self.id} has not begun"
        return self.made


Act = Callable[[Episode], Awaitable[bytes]]
"""What a call does with an episode's environment; gives the body of the answer."""


class Episodes:
    """All episodes of a service. Whatever an environment does wrong ends its own episode with an EnvFailedError."""

    def __init__(self, make_env: Callable[[str], Env], config: ServiceConfig) -> None:
        self.counters: Counter[str] = Counter()
        self._make_env, self._config = make_env, config
        self._hold = HoldLimit(config.hold_seconds)
        self._alive: dict[str, Episode] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def num_alive(self) -> int:
        """Episodes that have begun and not ended."""
        return len(self._alive)

    async def begin(self, episode_id: str, family: str, act: Act) -> bytes:
        """Make an environment and let it act: call 0 of a new episode. Raises RefusedError when there are too many."""
        if episode_id not in self._alive:
            if len(self._alive) >= self._config.most_episodes:
                self.counters["refused"] += 1
                raise RefusedError(429, f"{len(self._alive)} episodes are alive, which is the most there may be")
            self._alive[episode_id] = Episode(episode_id, self._now())
            self.counters["begun"] += 1

        async def first(episode: Episode) -> bytes:
            episode.made = self._make_env(family)
            return await act(episode)

        return await self.call(episode_id, 0, first)

    async def call(self, episode_id: str, number: int, act: Act) -> bytes:
        """Let an episode act. A call that has been answered is answered the same again, without acting.

        Raises RefusedError for an episode that is not there, and for a number that is out of turn.
        """
        episode = self._found(episode_id)
        async with episode.turn:
            self._found(episode_id)  # it may have ended meanwhile
            if number == episode.number:
                self.counters["repeated"] += 1
                return episode.answer
            if number != episode.number + 1:
                raise RefusedError(409, f"call {number} is out of turn: the last one was {episode.number}")
            episode.running = self._start(act(episode))
            try:
                episode.answer = await self._result(episode.running)
            except EnvFailedError as failure:
                self._found(episode_id)  # closed by its client, which no longer asks what came of it
                self.counters[failure.trouble] += 1
                self._leave(episode)
                raise
            episode.number, episode.used_at = number, self._now()
            self.counters["calls"] += 1
            return episode.answer

    async def close(self, episode_id: str) -> None:
        """End an episode, with whatever it is doing; one that is gone is closed. Raises EnvFailedError where it cannot be."""
        episode = self._alive.pop(episode_id, None)
        if episode is None:  # the answer to its client's first call was lost, say
            return
        self.counters["closed"] += 1
        await self._closed(episode)

    async def close_all(self) -> int:
        """End them all; how many there were."""
        episodes = list(self._alive.values())
        for episode in episodes:
            self._leave(episode)
        await asyncio.gather(*self._leaving, return_exceptions=True)
        return len(episodes)

    async def close_idle(self) -> None:
        """End those that nobody asks for; for ever."""
        while True:
            await asyncio.sleep(self._config.idle_seconds / 4)
            late = self._now() - self._config.idle_seconds
            for episode in [one for one in self._alive.values() if one.used_at < late and not one.turn.locked()]:
                self.counters["idle"] += 1
                self._leave(episode)

    def _leave(self, episode: Episode) -> None:
        """End an episode without waiting for its environment to close; what goes wrong in that is counted."""
        del self._alive[episode.id]
        leaving = asyncio.create_task(self._closed(episode))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        leaving.add_done_callback(_forget)

    async def _closed(self, episode: Episode) -> None:
        if episode.running is not None:
            _cancel(episode.running)
        if episode.made is not None:
            try:
                await self._result(self._start(_close(episode.made)))
            except EnvFailedError:
                self.counters["unclosable"] += 1
                raise

    def _start(self, work: Awaitable[T]) -> asyncio.Task[T]:
        """Begin what an environment does; the task raises EnvFailedError alone."""

        async def awaited() -> T:
            return await work

        async def watched() -> T:
            try:
                return await self._hold.watched(awaited())
            except HeldError as error:
                raise EnvFailedError("timed_out", str(error)) from None
            except WrongTypeError as error:
                raise EnvFailedError("wrong_type", str(error)) from error
            except Exception as error:
                raise EnvFailedError("raised", f"{type(error).__name__}: {error}") from error

        return asyncio.create_task(watched())

    async def _result(self, running: asyncio.Task[T]) -> T:
        """What a task brings within its time. It may swallow its cancellation and go on: nobody waits for it then."""
        done, _ = await asyncio.wait((running,), timeout=self._config.call_seconds)
        if not done:
            _cancel(running)
            raise EnvFailedError("timed_out", f"no answer within {self._config.call_seconds:g} s")
        if running.cancelled():
            raise EnvFailedError("raised", "it was cancelled")
        return running.result()

    def _found(self, episode_id: str) -> Episode:
        if episode_id not in self._alive:
            raise _gone(episode_id)
        return self._alive[episode_id]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _close(env: Env) -> None:
    await env.close()


def _cancel(running: asyncio.Task[Any]) -> None:
    running.cancel()
    running.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    """Look at what became of a task that nobody waits for: asyncio complains otherwise."""
    if not task.cancelled():
        task.exception()


def _gone(episode_id: str) -> RefusedError:
    return RefusedError(
        404, f"no episode {episode_id}: it was closed, broke, lay idle too long, or the service has started anew"
    )
