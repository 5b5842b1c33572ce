"""An event loop for work that comes in stretches: between them its clock stands still."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SHORT = 1e-3  # seconds: shorter waits are the loop's own work


class StandstillLoop(asyncio.SelectorEventLoop):
    """Its clock goes only while it runs, so that no time limit passes while the process trains.

    Where it waits with nothing to do is noted.
    """

    def __init__(self) -> None:
        self._stood_since, self._stood = time.monotonic(), 0.0
        self._stands = True
        self._waits = _Waits()
        super().__init__(self._waits)

    def time(self) -> float:
        """Seconds that it has run, by the monotonic clock."""
        return (self._stood_since if self._stands else super().time()) - self._stood

    def run_until_complete(self, future: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:  # type: ignore[override]
        """Run until this is done; all else stands still afterwards where it is."""
        self._stood += super().time() - self._stood_since
        self._stands = False
        try:
            return super().run_until_complete(future)
        finally:
            self._stood_since, self._stands = super().time(), True

    def take_waits(self) -> list[tuple[float, float]]:
        """When it waited, by ``time.perf_counter``, since this was last asked."""
        waits, self._waits.spans = self._waits.spans, []
        return waits


class _Waits(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[float, float]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        start = time.perf_counter()
        ready = super().select(timeout)
        end = time.perf_counter()
        if end - start > SHORT:
            self.spans.append((start, end))
        return ready
