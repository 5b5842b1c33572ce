"""A few processes that judge expressions with math-verify: started once, used again, replaced when a time limit passes.

math-verify's own limits use signals, which work in a main thread only, and sympy can run for years on a short line.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import json
import queue
import select
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Tree = list[Any]
"""An expression as ``expression.tree`` writes it."""

LIMIT_S = 2.0  # for one comparison
_START_S = 60.0  # for importing sympy on a busy machine
_ALARM_AFTER_S = 1.0  # past the limit, should nobody be left to kill the process
MISSING = "judging mathematics needs math-verify: pip install 'openk2[math]'"


class Judge:
    """One process, for one caller at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def equal(self, gold: Tree, answer: Tree, limit_s: float) -> bool:
        """Are two expressions equal? Raises TimeoutError after the limit; then the process is gone, and another will start."""
        process = self._started()
        job = json.dumps([limit_s + _ALARM_AFTER_S, gold, answer]).encode() + b"\n"
        try:
            assert process.stdin is not None
            process.stdin.write(job)
            process.stdin.flush()
            return bool(json.loads(self._line(process, limit_s)))
        except TimeoutError:
            self.close()
            raise
        except (OSError, EOFError):  # it ran out of memory: no verdict, and no equality shown
            self.close()
            return False

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            # -P: the folder of the file is no place to import from.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,  # an interrupt at the keyboard is for us
            )
            if self._line(self._process, _START_S) != b"ready\n":
                raise RuntimeError("the judge of expressions did not start")
        return self._process

    @staticmethod
    def _line(process: subprocess.Popen[bytes], limit_s: float) -> bytes:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], limit_s)[0]:
            raise TimeoutError
        line = process.stdout.readline()
        if not line:
            raise EOFError
        return line


class Judges:
    """``size`` judges, shared by all threads and event loops of this process."""

    def __init__(self, size: int) -> None:
        """Nothing starts before it is needed. Raises ValueError when math-verify is missing."""
        if importlib.util.find_spec("math_verify") is None:
            raise ValueError(MISSING)
        self._all = [Judge() for _ in range(size)]
        self._threads = ThreadPoolExecutor(size, "judge")  # of its own: who waits for a judge keeps nobody else waiting
        self._free: queue.LifoQueue[Judge] = queue.LifoQueue()  # the warm one first
        for judge in self._all:
            self._free.put(judge)

    async def equal(self, gold: Tree, answer: Tree) -> bool:
        """As ``Judge.equal``, without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._equal, gold, answer)

    def _equal(self, gold: Tree, answer: Tree) -> bool:
        judge = self._free.get()
        try:
            return judge.equal(gold, answer, LIMIT_S)
        finally:
            self._free.put(judge)

    def close(self) -> None:
        """End all processes; they start again when needed."""
        for judge in self._all:
            judge.close()


_SIZE = 2
_shared: list[Judges] = []
_lock = threading.Lock()


def shared() -> Judges:
    """The judges of this process, which end with it. Raises ValueError when math-verify is missing."""
    with _lock:
        if not _shared:
            _shared.append(Judges(_SIZE))
            atexit.register(_shared[0].close)
        return _shared[0]
