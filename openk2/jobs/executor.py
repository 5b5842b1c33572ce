"""Run many small jobs in one process: a bounded asyncio map with a time limit per job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(slots=True, frozen=True)
class Outcome(Generic[Item, Value]):
    """What became of one item: a value, or the error that stopped it."""

    item: Item
    value: Value | None
    error: Exception | None


async def run_jobs(
    function: Callable[[Item], Awaitable[Value]],
    items: Iterable[Item],
    *,
    num_workers: int,
    limit_s: float,
) -> AsyncGenerator[Outcome[Item, Value], None]:
    """Apply ``function`` to every item, at most ``num_workers`` at a time, and yield outcomes as they come.

    ``items`` is read lazily, so memory stays flat. A job that raises, or waits beyond ``limit_s`` seconds
    (TimeoutError), becomes an outcome with its error; the others go on. A job that never awaits cannot be stopped.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers is at least 1, got {num_workers}")

    async def attempt(item: Item) -> Outcome[Item, Value]:
        try:
            async with asyncio.timeout(limit_s):
                return Outcome(item, await function(item), None)
        except Exception as error:  # noqa: BLE001 - a job may fail in any way; the outcome carries how
            return Outcome(item, None, error)

    running: set[asyncio.Task[Outcome[Item, Value]]] = set()
    source = iter(items)
    exhausted = False
    try:
        while True:
            while not exhausted and len(running) < num_workers:
                try:
                    running.add(asyncio.ensure_future(attempt(next(source))))
                except StopIteration:
                    exhausted = True
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
