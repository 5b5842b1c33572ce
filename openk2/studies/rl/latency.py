"""Environments that take their time, in a process of their own: their waiting goes on while training computes (K2 §3.3)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from random import Random
from typing import Literal

from openk2.gym.families import make_env
from openk2.gym.service.config import ServiceConfig
from openk2.gym.service.serve import run
from openk2.jobs.lifeline import end_with_parent
from openk2.schema import Env, Message, Observation, Score, Task, Trace
from openk2.worlds.config import WorldsConfig

_START_SECONDS, _STOP_SECONDS = 60.0, 5
_SEED_BYTES = 8


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds before an environment answers a message: log-normal with this median, never more than ``most``."""

    median: float = 0.3
    sigma: float = 1.3
    most: float = 20.0

    def seconds(self, seed: int, message: Message) -> float:
        """Of one answer: the same message waits as long in every episode of that seed."""
        said = json.dumps(message.to_json(), sort_keys=True)
        drawn = Random(hashlib.sha256(f"{seed} {said}".encode()).digest())
        return min(self.most, drawn.lognormvariate(math.log(self.median), self.sigma))


class SlowEnv:
    """An environment whose steps answer late. Pausing, going on and scoring take no longer than before."""

    resumable: Literal["snapshot"] = "snapshot"

    def __init__(self, env: Env, latency: Latency) -> None:
        self._env, self._latency, self._seed = env, latency, 0

    def tasks(self, split: str) -> Sequence[Task]:
        """Those of the environment."""
        return self._env.tasks(split)

    async def reset(self, task: Task, seed: int) -> Observation:
        """Begin, at once."""
        self._seed = seed
        return await self._env.reset(task, seed)

    async def step(self, message: Message) -> Observation:
        """Answer, late."""
        await asyncio.sleep(self._latency.seconds(self._seed, message))
        return await self._env.step(message)

    async def score(self, trace: Trace) -> Score:
        """The environment's judgement."""
        return await self._env.score(trace)

    async def close(self) -> None:
        """Free what the episode held."""
        await self._env.close()

    def snapshot(self) -> bytes:
        """The seed of the latencies, and the environment's own snapshot."""
        return self._seed.to_bytes(_SEED_BYTES, "big") + self._env.snapshot()

    def restore(self, state: bytes) -> None:
        """Go back to a snapshot."""
        self._seed = int.from_bytes(state[:_SEED_BYTES], "big")
        self._env.restore(state[_SEED_BYTES:])


@contextmanager
def slow_service(family: str, worlds: WorldsConfig, latency: Latency) -> Iterator[str]:
    """The URL of a service with slow environments of a family, for as long as the context lasts.

    Raises TimeoutError when it does not listen within a minute, OSError when it ends before. It ends with its parent, however
    that ends.
    """
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_serve, args=(family, worlds, latency, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_START_SECONDS):
            raise TimeoutError(f"the service of slow {family} did not listen within {_START_SECONDS:.0f} s")
        try:
            listening: str = ours.recv()
        except EOFError:
            raise OSError(f"the service of slow {family} ended before it listened") from None
        yield listening.split()[-1]
    finally:
        process.terminate()
        process.join(3 * _STOP_SECONDS)
        process.kill()
        ours.close()


def _serve(family: str, worlds: WorldsConfig, latency: Latency, told: Connection) -> None:
    end_with_parent(signal.SIGTERM)
    config = ServiceConfig(port=0, stop_seconds=_STOP_SECONDS)
    run(partial(_slow_env, worlds=worlds, latency=latency), [family], config, told.send)


def _slow_env(family: str, worlds: WorldsConfig, latency: Latency) -> SlowEnv:
    return SlowEnv(make_env(family, worlds), latency)
