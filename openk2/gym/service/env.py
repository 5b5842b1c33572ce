"""An environment that is played elsewhere: the ``Env`` contract over a service."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from typing import overload
from urllib.parse import quote

from openk2.agent import EnvFailedError
from openk2.gym.service import wire
from openk2.gym.service.client import Resumable, Service, ServiceGoneError, service_at
from openk2.schema import JSON, Message, Observation, Score, Task, ToolSpec, Trace

PAGE = 25  # tasks fetched at a time: in some families making one takes 50 ms
_DOUBT_SECONDS = 1.0  # to close an episode whose last call failed


class ServiceEnv:
    """One episode at a time of a family at a service (an ``Env``). Any number of them share its connections.

    What its environment does wrong is raised as EnvFailedError, or TimeoutError; ServiceGoneError says that nobody is there.
    ``tasks``, ``snapshot`` and ``resumable`` (once) wait for the service; ``asyncio.to_thread(env.snapshot)`` keeps a loop free.
    """

    def __init__(self, url: str, family: str, *, seconds: float = 90.0) -> None:
        """``seconds`` limits every call; let it be more than the service's own ``call_seconds``, whose errors say more."""
        self._service, self._family, self._seconds = service_at(url.rstrip("/")), family, seconds
        self._id: str | None = None
        self._number = 0
        self._in_doubt = False
        self._to_restore: bytes | None = None
        self._tools: list[ToolSpec] = []

    @property
    def resumable(self) -> Resumable:
        """What the served family says. Raises ValueError where the service does not have it."""
        return self._service.resumable(self._family, self._seconds)

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, fetched by pages. Raises ValueError for a split there is none of."""
        return ServedTasks(self._service, f"/families/{self._family}/tasks?split={quote(split)}", self._seconds)

    async def reset(self, task: Task, seed: int) -> Observation:
        """Begin an episode; one that is open is closed first."""
        await self.close()
        self._begin()
        return await self._observed("reset", {"family": self._family, "task": task.to_json(), "seed": seed})

    async def step(self, message: Message) -> Observation:
        """Act."""
        await self._bring_back()
        return await self._observed("step", {"number": self._next(), "message": message.to_json()})

    async def score(self, trace: Trace) -> Score:
        """Judge the episode; the trace travels without its tokens."""
        await self._bring_back()
        return wire.score_from_json(
            await self._called("score", {"number": self._next(), "trace": wire.trace_to_json(trace)})
        )

    async def close(self) -> None:
        """Free the episode at the service; one whose last call failed is not waited for."""
        self._to_restore = None
        await self._leave()

    def snapshot(self) -> bytes:
        """The whole episode, for any service of the family. Raises ValueError where ``resumable`` is something else."""
        if self.resumable != "snapshot":
            raise ValueError(f"{self._family} episodes have no snapshot: they are resumable by {self.resumable!r}")
        if self._to_restore is not None:
            return self._to_restore
        path, number = self._path("snapshot"), self._next()
        self._in_doubt = True
        told = self._service.ask("POST", path, self._seconds, {"number": number})
        self._in_doubt = False
        return wire.state_from_json(told)

    def restore(self, state: bytes) -> None:
        """Go back to a snapshot. It travels with the next call, which raises what is wrong with it."""
        self._to_restore = state

    async def _bring_back(self) -> None:
        if self._to_restore is None:
            return
        await self._leave()
        self._begin()
        await self._called("restore", {"family": self._family} | wire.state_to_json(self._to_restore))
        self._to_restore = None

    async def _observed(self, verb: str, body: JSON) -> Observation:
        observation = wire.observation_from_json(await self._called(verb, body), self._tools)
        self._tools = observation.tools
        return observation

    async def _called(self, verb: str, body: JSON) -> JSON:
        path = self._path(verb)
        self._in_doubt = True
        told = await self._service.post(path, body, self._seconds)
        self._in_doubt = False
        return told

    async def _leave(self) -> None:
        if self._id is None:
            return
        path, in_doubt = self._path("close"), self._in_doubt
        self._id, self._in_doubt = None, False
        if (
            in_doubt
        ):  # ended there, or busy, or all is gone; what is left of it the service closes when it has lain idle
            with contextlib.suppress(EnvFailedError, TimeoutError, ServiceGoneError):
                await self._service.post(path, {}, _DOUBT_SECONDS)
        else:
            await self._service.post(path, {}, self._seconds)

    def _begin(self) -> None:
        self._id, self._number = uuid.uuid4().hex, 0

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _path(self, verb: str) -> str:
        if self._id is None:
            raise ValueError("no episode is open: call reset first")
        return f"/episodes/{self._id}/{verb}"


class ServedTasks(Sequence[Task]):
    """The tasks of a split at a service, fetched when asked for, a page at a time."""

    def __init__(self, service: Service, path: str, seconds: float) -> None:
        """Raises ValueError for a split there is none of."""
        self._service, self._path, self._seconds = service, path, seconds
        self._pages: dict[int, list[Task]] = {}
        try:
            self._length: int = self._fetch(0)["num_tasks"]
        except EnvFailedError as error:
            raise ValueError(str(error)) from error

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"there are {self._length} tasks, no number {index}")
        page, place = divmod(index % self._length, PAGE)
        if page not in self._pages:
            self._fetch(page)
        return self._pages[page][place]

    def _fetch(self, page: int) -> JSON:
        told = self._service.ask("GET", f"{self._path}&start={page * PAGE}&count={PAGE}", self._seconds)
        self._pages[page] = [Task.from_json(task) for task in told["tasks"]]
        return told
