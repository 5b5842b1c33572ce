"""``openk2 serve`` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

SECONDS = 60.0


class Process:
    """``openk2 serve`` and what it prints."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openk2.cli", "serve", str(folder), "--port", "0", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self._line("serving ").split()[-1]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())

    def _line(self, start: str) -> str:
        deadline = time.monotonic() + SECONDS
        while True:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.1))
            if line.startswith(start):
                return line

    def status(self, path: str, body: object = None) -> int:
        method = "GET" if body is None else "POST"
        return httpx2.request(method, self.address + path, json=body, timeout=SECONDS).status_code


@contextlib.contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Process]:
    process = Process(folder, *flags)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait(timeout=SECONDS)
