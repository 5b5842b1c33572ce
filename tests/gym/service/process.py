"""A service as a process of its own: ``python -m tests.gym.service.process CONFIG FAMILY…``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2

from openk2.gym import catalogue
from openk2.gym.service.config import ServiceConfig
from openk2.gym.service.serve import run
from openk2.schema import Env
from tests.gym.service.odd import ODD

SECONDS = 30.0
ROOT = Path(__file__).parents[3]


class Process:
    """A service, and what it printed last."""

    def __init__(self, families: Sequence[str], **limits: Any) -> None:
        config = ServiceConfig(**{"port": 0, **limits})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.gym.service.process", config.model_dump_json(), *families],
            stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said.startswith(f"serving {', '.join(families)} on http://127.0.0.1:"), said
        self.url = said.split()[-1]
        self.client = httpx2.Client(base_url=self.url, timeout=SECONDS, trust_env=False, verify=False)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """As the machine's power going out; what was said and not read is gone with it."""
        self.process.kill()
        self.process.wait(SECONDS)
        self.client.close()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def health(self) -> dict[str, Any]:
        return self.client.get("/health").json()

    def post(self, path: str, body: Any) -> httpx2.Response:
        return self.client.post(path, json=body)


@contextlib.contextmanager
def serving(*families: str, **limits: Any) -> Iterator[Process]:
    process = Process(families, **limits)
    try:
        yield process
    finally:
        process.kill()


def make_env(family: str) -> Env:
    return ODD[family]() if family in ODD else catalogue.family(family).make()


if __name__ == "__main__":
    run(make_env, sys.argv[2:], ServiceConfig.model_validate_json(sys.argv[1]), lambda line: print(line, flush=True))
