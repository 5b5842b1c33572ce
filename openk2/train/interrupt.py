"""Ctrl-C at a moment that costs nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Self


class Interrupt:
    """While entered, the first Ctrl-C is only noted in ``asked``, for whoever knows a good moment; a second one interrupts.

    ``on_asked`` hears of the first. Does nothing outside the main thread, where no signals arrive, and in a process
    that was started to ignore Ctrl-C.
    """

    def __init__(self, on_asked: Callable[[], None]) -> None:
        self.asked = False
        self._on_asked = on_asked

    def __enter__(self) -> Self:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._listening = in_main_thread and signal.getsignal(signal.SIGINT) != signal.SIG_IGN
        if self._listening:
            self._before = signal.signal(signal.SIGINT, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listening:
            signal.signal(signal.SIGINT, self._before)

    def _heard(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._on_asked()
