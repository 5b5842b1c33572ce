"""A limit for code that never awaits: where it holds the event loop too long, a signal interrupts it.

``asyncio.timeout`` ends only what awaits. An environment that computes, sleeps or waits for a program without awaiting holds
up every other episode of its process, and no other task can stop it.
"""

from __future__ import annotations

import signal
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class HeldError(BaseException):
    """Raised within the code that holds the loop. No Exception: an environment that catches those does not catch this."""


class HoldLimit:
    """Interrupts code of the main thread that goes on for ``seconds`` without awaiting. It takes SIGALRM for itself.

    C code that runs without looking at signals (a long SQLite query) goes on until it returns to Python.
    """

    _armed = False  # of the process, as its timer is

    def __init__(self, seconds: float) -> None:
        """Raises ValueError in another thread: signals reach the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("code that never awaits can be interrupted in a process's main thread alone: run it there")
        self._seconds = seconds
        signal.signal(signal.SIGALRM, _ring)

    @types.coroutine
    def watched(self, call: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await ``call``. Raises HeldError where it held the loop too long."""
        go_on: Callable[[Any], Any] = call.send
        given: Any = None
        while True:
            try:
                awaited = self.within(go_on, given)
            except StopIteration as end:
                return end.value
            try:
                go_on, given = call.send, (yield awaited)
            except BaseException as error:  # noqa: BLE001 - a cancellation too is the coroutine's own to hear of
                go_on, given = call.throw, error

    def within(self, function: Callable[..., T], *given: Any) -> T:
        """Call it. Raises HeldError where it took too long.

        It rings again and again: the first time may have been swallowed by a bare ``except``.
        """
        try:
            try:
                HoldLimit._armed = True
                signal.setitimer(signal.ITIMER_REAL, self._seconds, self._seconds)
                return function(*given)
            finally:
                _disarm()
        except HeldError:
            _disarm()  # it may have rung while the first was under way
            raise HeldError(f"went on for {self._seconds:g} s without awaiting") from None


def _disarm() -> None:
    HoldLimit._armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)


def _ring(signum: int, frame: FrameType | None) -> None:
    if HoldLimit._armed:
        raise HeldError
