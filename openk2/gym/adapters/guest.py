"""Other people's Python in a process of its own: asked one thing at a time, each within a time, and killed when it is late.

A thread cannot be ended from outside; a process can. It may run another interpreter, so that packages that do not go together with
ours have an environment of their own. It keeps a program from hanging us, not from doing harm: it is no sandbox.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

START_S = 60.0  # added to the first question: their imports
MOST_BYTES = 64 << 20  # of one answer
GUESTS = Path(__file__).parent / "guests"
"""Our files that run inside."""


class GuestError(RuntimeError):
    """Their code raised, or its process died."""


class GuestHungError(GuestError):
    """Their code gave no answer in time; its process was killed."""


class Guest:
    """One process. It starts when first asked, and again after it was killed."""

    def __init__(
        self, file: Path, package: str, python: str, *, first: tuple[str, Mapping[str, Any], float] | None = None
    ) -> None:
        """``file`` has a class ``Guest``; ``package`` is what it needs, as pip calls it, ``python`` the interpreter that has it.

        ``first`` is asked of each new process before anything else: a method, its arguments, its seconds.
        """
        self._file, self._package, self._python, self._first = file, package, python, first
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"guest-{file.stem}")

    async def ask(self, method: str, within: float, **arguments: Any) -> Any:
        """What their code answers. Questions wait for one another.

        Raises GuestError for what it raises, GuestHungError when it takes more than ``within`` seconds, ValueError where
        the package is missing.
        """
        return await asyncio.wrap_future(self._thread.submit(self._ask, method, within, arguments))

    def ask_now(self, method: str, within: float, **arguments: Any) -> Any:
        """``ask`` for those who can wait."""
        return self._thread.submit(self._ask, method, within, arguments).result()

    def end(self) -> None:
        """Kill the process; the next question starts another."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)

    def _ask(self, method: str, within: float, arguments: dict[str, Any]) -> Any:
        process = self._process
        if process is None or process.poll() is not None:
            process, within = self._start(), within + START_S
            if self._first is not None:
                before, given, seconds = self._first
                try:
                    self._exchange(process, before, seconds + START_S, given)
                except BaseException:
                    self.end()
                    raise
        return self._exchange(process, method, within, arguments)

    def _exchange(
        self, process: subprocess.Popen[bytes], method: str, within: float, arguments: Mapping[str, Any]
    ) -> Any:
        request = json.dumps({"method": method, "arguments": dict(arguments)}).encode() + b"\n"
        try:
            assert process.stdin is not None
            process.stdin.write(request)
            process.stdin.flush()
            answer = json.loads(self._line(process, within))
        except BaseException as error:
            self.end()  # it is in the middle of something: nobody could tell whose answer comes next
            if isinstance(error, BrokenPipeError | ValueError):
                raise GuestError(f"the process of {self._package} died") from error
            raise
        if answer.get("missing"):
            raise ValueError(
                f"{self._python} has no package {answer['missing']}: {self._python} -m pip install {self._package}"
            )
        if "error" in answer:
            raise GuestError(answer["error"])
        return answer["result"]

    def _start(self) -> subprocess.Popen[bytes]:
        program = [self._python, "-P", str(GUESTS / "serve.py"), str(self._file), "Guest"]
        self._process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # Sets in the order of their hashes would make other questions in each process.
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        weakref.finalize(self, _kill, self._process)
        return self._process

    def _line(self, process: subprocess.Popen[bytes], within: float) -> bytes:
        assert process.stdout is not None
        deadline, line = time.monotonic() + within, bytearray()
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise GuestHungError(f"no answer within {within:g} s")
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk or len(line) > MOST_BYTES:
                raise GuestError(f"the process of {self._package} died, or said over {MOST_BYTES >> 20} MB")
            line += chunk
        return bytes(line)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It and all it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
