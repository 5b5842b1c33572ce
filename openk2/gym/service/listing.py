"""The tasks of the families of a service, page by page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import lru_cache

from openk2.gym.service.episodes import RefusedError
from openk2.schema import JSON, Env

MOST_SPLITS = 32  # kept; some families take any word for a split


class Listing:
    """Tasks in their order. They are made in a thread: some families take seconds."""

    def __init__(self, make_env: Callable[[str], Env], seconds: float) -> None:
        self._seconds = seconds
        self._making = threading.Lock()
        self._split = lru_cache(MOST_SPLITS)(lambda family, split: make_env(family).tasks(split))

    async def page(self, family: str, split: str, start: int, count: int) -> JSON:
        """``num_tasks`` in all, and those from ``start``. Raises RefusedError for a split there is none of."""
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.to_thread(self._page, family, split, start, count)
        except TimeoutError:
            raise RefusedError(504, f"the tasks of {family} were not made within {self._seconds:g} s") from None
        except ValueError as error:
            raise RefusedError(404, str(error)) from error

    def _page(self, family: str, split: str, start: int, count: int) -> JSON:
        with self._making:
            tasks = self._split(family, split)
            return {"num_tasks": len(tasks), "tasks": [task.to_json() for task in tasks[start : start + count]]}
