"""Cells made ahead of time, each used once: whoever runs a program does not wait for bwrap."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from openk2.sandbox.cell import Cell
from openk2.sandbox.config import BARE, Fittings, Limits
from openk2.sandbox.once import Order, Result, run_in

NUM_STARTING = 2  # cells made at the same time


class Pool:
    """Keeps ``size`` cells ready."""

    def __init__(self, size: int, limits: Limits | None = None, fittings: Fittings = BARE) -> None:
        self.limits, self._fittings = limits or Limits(), fittings
        self._ready: asyncio.Queue[Cell | Exception] = asyncio.Queue(size)
        self._makers: list[asyncio.Task[None]] = []

    @property
    def num_ready(self) -> int:
        """Cells that are up and wait."""
        return self._ready.qsize()

    async def run(self, order: Order) -> tuple[Result, bytes | None]:
        """Run in the next cell. Raises SandboxError when none can be made."""
        return await run_in(await self._take(), order)

    async def _take(self) -> Cell:
        assert self._makers, "enter the pool first"
        cell = await self._ready.get()
        if isinstance(cell, Exception):
            raise cell
        return cell

    async def __aenter__(self) -> Self:
        self._makers = [asyncio.create_task(self._make()) for _ in range(NUM_STARTING)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for maker in self._makers:
            maker.cancel()
        await asyncio.gather(*self._makers, return_exceptions=True)
        while not self._ready.empty():
            cell = self._ready.get_nowait()
            if isinstance(cell, Cell):
                await cell.close()

    async def _make(self) -> None:
        while True:
            cell = Cell(self.limits, self._fittings)
            try:
                await cell.start()
            except Exception as error:  # noqa: BLE001 - told to whoever wants a cell
                await self._ready.put(error)
                continue
            try:
                await self._ready.put(cell)
            except BaseException:
                await cell.close()
                raise
