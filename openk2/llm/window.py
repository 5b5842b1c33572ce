"""Rate control: how many requests may be under way, by additive increase and ×0.75 on 429."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

SHRINK = 0.75
GROWTH = 0.1  # of the ceiling, for each window of answers


class Window:
    """Turns for requests, first come first served. ``size`` is how many may be under way now."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = float(ceiling)
        self.size = float(ceiling)
        self.num_in_flight = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._shrunk_at = float("-inf")

    async def enter(self, *, urgent: bool) -> None:
        """Wait for a turn; ``urgent`` goes before those who have not been sent at all. The caller sets the limit."""
        if self.num_in_flight < int(self.size) and not self._queue:
            self.num_in_flight += 1
            return
        place = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if urgent else self._queue.append)(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()  # the turn had just come
            else:
                with contextlib.suppress(ValueError):
                    self._queue.remove(place)
            raise

    def leave(self) -> None:
        """The request is over: let the next ones in."""
        self.num_in_flight -= 1
        while self._queue and self.num_in_flight < int(self.size):
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                self.num_in_flight += 1

    def grow(self) -> None:
        """An answer came: a whole window of them adds a tenth of the ceiling."""
        self.size = min(self.size + GROWTH * self._ceiling / self.size, self._ceiling)

    def shrink(self, began: float, now: float) -> None:
        """A 429 came for a request sent at ``began``. One of an earlier window has been reckoned with already."""
        if began >= self._shrunk_at:
            self.size = max(self.size * SHRINK, 1.0)
            self._shrunk_at = now
