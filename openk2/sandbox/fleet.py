"""Boxes on many machines: Ray actors that each keep a pool warm, behind the same ``run`` (K2 §3.2: over ten thousand at once).

An archive goes there and comes back with each run, so a box is nowhere between two of them: any machine takes the next.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from openk2.sandbox.cell import KEEP_S, START_S
from openk2.sandbox.config import Limits
from openk2.sandbox.enclosure import SandboxError, enclosure
from openk2.sandbox.once import Order, Result
from openk2.sandbox.pool import Pool

READY_S = 120.0  # for an actor to come up; Ray itself takes seconds
TRIES = 3  # on other actors, where one dies under a run
_ON_THE_WAY_S = 30.0  # for archives to travel


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """How many boxes run at once: ``num_actors`` over the cluster, ``boxes`` in each; an actor reserves ``cpus``."""

    num_actors: int
    boxes: int = 16
    warm: int = 4
    cpus: float = 1.0


class Fleet:
    """A ``Runner`` over a Ray cluster, which must be up (``ray.init``). Enter it, then give it to boxes as their pool."""

    def __init__(self, config: FleetConfig, limits: Limits | None = None) -> None:
        self.config, self.limits = config, limits or Limits()
        self._actors: list[Any] = []
        self._free: asyncio.Queue[int] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        """Start the actors, spread over the nodes. Raises SandboxError for a node that can make no box, and for one too slow."""
        try:
            import ray
        except ImportError as error:
            raise SandboxError("a fleet needs ray: pip install 'openk2[ray]'") from error
        if not ray.is_initialized():
            raise SandboxError("no Ray cluster is connected: call ray.init first")
        config = self.config
        keeper = ray.remote(_Keeper).options(
            num_cpus=config.cpus, max_concurrency=config.boxes, max_restarts=-1, scheduling_strategy="SPREAD"
        )
        self._actors = [keeper.remote(self.limits, config.warm) for _ in range(config.num_actors)]
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*(actor.check.remote() for actor in self._actors))
        except TimeoutError:
            await self.__aexit__(None, None, None)
            needed = f"{config.num_actors} actors of {config.cpus:g} CPUs"
            raise SandboxError(f"not all of {needed} came up within {READY_S:g} s: has the cluster so many?") from None
        except ray.exceptions.RayTaskError as error:
            await self.__aexit__(None, None, None)
            raise SandboxError(f"a node of the cluster makes no boxes: {error.cause}") from error
        for _ in range(config.boxes):
            for number in range(config.num_actors):
                self._free.put_nowait(number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """End the actors and whatever runs in them."""
        import ray

        actors, self._actors = self._actors, []
        for actor in actors:
            ray.kill(actor)

    async def run(self, order: Order) -> tuple[Result, bytes | None]:
        """Run on whichever actor has room. Where one dies under it, another takes it. Raises SandboxError when none does."""
        import ray

        for _ in range(TRIES):
            number = await self._free.get()
            try:
                async with asyncio.timeout(START_S + self.limits.wall_s + KEEP_S + _ON_THE_WAY_S):
                    ended: tuple[Result, bytes | None] = await self._actors[number].run.remote(order)
                    return ended
            except (ray.exceptions.RayActorError, TimeoutError):
                continue  # Ray starts the actor anew
            except ray.exceptions.RayTaskError as error:
                raise SandboxError(str(error.cause)) from error
            finally:
                self._free.put_nowait(number)
        raise SandboxError(f"{TRIES} actors died or gave no answer under one run")


class _Keeper:
    """The actor: a pool on its machine."""

    def __init__(self, limits: Limits, warm: int) -> None:
        self._limits, self._warm = limits, warm
        self._stack = AsyncExitStack()
        self._pool: asyncio.Task[Pool] | None = None

    async def check(self) -> dict[str, str]:
        """By what each limit holds there. Raises SandboxError where no box can be made."""
        await self._warmed()
        return enclosure().holds()

    async def run(self, order: Order) -> tuple[Result, bytes | None]:
        """One run."""
        return await (await self._warmed()).run(order)

    async def _warmed(self) -> Pool:
        """The pool: an actor's own loop must make it, so the first call does."""
        if self._pool is None:
            enclosure()
            self._pool = asyncio.create_task(self._stack.enter_async_context(Pool(self._warm, self._limits)))
        return await self._pool
