"""A worker process does not outlive the one that started it, however that ended."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from multiprocessing import parent_process


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Send this process that signal once its parent is gone. For processes that ``multiprocessing`` started; returns at once.

    Without it a worker whose parent was killed waits for work forever, or goes on with what lies in its queue.
    """
    parent = parent_process()
    if parent is None:
        raise ValueError("this process was not started by multiprocessing: it has no parent to end with")

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


def end_when_closed(descriptor: int, seconds: float = 1.0) -> None:
    """Kill this process so long after the other end of a socket was closed, as it is when who held it is gone; returns at once."""

    def watch() -> None:
        hung_up = select.poll()
        hung_up.register(descriptor, 0)  # nothing but that the other end is gone
        hung_up.poll()
        time.sleep(seconds)  # to end by itself
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
