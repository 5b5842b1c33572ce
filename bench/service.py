"""What a service costs: steps a second, their latency and the CPU they take of the caller, against the environment in the process.

Two environments: one that answers at once, which shows the cost of the way, and a tool world. One episode after the other calls, then
16 and 256 at once. Beside our client the same requests through httpx2, in alternating rounds; medians count.

    python -m bench.service --out results/service.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Literal

import httpx2

from openk2.gym import catalogue
from openk2.gym.service.config import ServiceConfig
from openk2.gym.service.env import ServiceEnv
from openk2.gym.service.serve import run
from openk2.gym.tool_agents import calls_of
from openk2.jobs.provenance import provenance
from openk2.schema import Env, Message, Observation, Score, Task, Trace
from openk2.worlds.gates import random_arguments

AT_ONCE = (1, 16, 256)
WAYS = ("in process", "openk2", "httpx2")
FIGURES = ("steps_per_second", "p50_ms", "p99_ms", "caller_cpu_ms")


class Echo:
    """Says what it is told."""

    resumable: Literal["none"] = "none"

    def tasks(self, split: str) -> list[Task]:
        """One task."""
        return [Task("echo", "echo", "echo", split, {})]

    async def reset(self, task: Task, seed: int) -> Observation:
        """Begin."""
        return Observation([Message("user", "Speak.")], [])

    async def step(self, message: Message) -> Observation:
        """Say it again."""
        return Observation([Message("user", message.content)], [])

    async def score(self, trace: Trace) -> Score:
        """Nothing to earn."""
        return Score(0.0)

    async def close(self) -> None:
        """Nothing is held."""

    def snapshot(self) -> bytes:
        """Raises ValueError."""
        raise ValueError("echoes are not kept")

    def restore(self, state: bytes) -> None:
        """Raises ValueError."""
        raise ValueError("echoes are not kept")


class ByHttpx:
    """The same requests through a general client; answers are parsed and no more."""

    def __init__(self, client: httpx2.AsyncClient, family: str) -> None:
        self._client, self._family = client, family
        self._path, self._number = f"/episodes/{uuid.uuid4().hex}", 0

    async def reset(self, task: Task, seed: int) -> object:
        """Begin."""
        body = {"family": self._family, "task": task.to_json(), "seed": seed}
        return (await self._client.post(f"{self._path}/reset", json=body)).raise_for_status().json()

    async def step(self, message: Message) -> object:
        """Act."""
        self._number += 1
        body = {"number": self._number, "message": message.to_json()}
        return (await self._client.post(f"{self._path}/step", json=body)).raise_for_status().json()

    async def close(self) -> None:
        """Free the episode."""
        await self._client.post(f"{self._path}/close", json={})


def make_env(family: str) -> Env:
    return Echo() if family == "echo" else catalogue.family(family).make()


@contextmanager
def serving() -> Iterator[str]:
    """A service's address."""
    server = subprocess.Popen([sys.executable, "-m", "bench.service", "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait(30)


async def acts(family: str) -> tuple[Task, Message]:
    """A task and something to do in it that can be done again and again."""
    env = make_env(family)
    task = env.tasks("train")[0]
    tools = (await env.reset(task, 0)).tools
    await env.close()
    if not tools:
        return task, Message("assistant", "hello")
    reading = next(tool for tool in tools if tool.name.startswith(("get", "find", "list", "search", "read")))
    return task, calls_of([{"tool": reading.name, "arguments": random_arguments(reading, Random(0))}])[0]


async def measured(envs: Sequence[Env | ByHttpx], task: Task, message: Message, num_steps: int) -> dict[str, float]:
    """All episodes step at once, each as soon as it has been answered."""
    await asyncio.gather(*(env.reset(task, 0) for env in envs))
    seconds: list[float] = []

    async def play(env: Env | ByHttpx) -> None:
        for _ in range(num_steps // len(envs)):
            began = time.perf_counter()
            await env.step(message)
            seconds.append(time.perf_counter() - began)

    began, worked = time.perf_counter(), time.process_time()
    await asyncio.gather(*(play(env) for env in envs))
    took, cpu = time.perf_counter() - began, time.process_time() - worked
    await asyncio.gather(*(env.close() for env in envs))
    cuts = statistics.quantiles(seconds, n=100)
    figures = (len(seconds) / took, 1e3 * cuts[49], 1e3 * cuts[98], 1e3 * cpu / len(seconds))
    return dict(zip(FIGURES, figures, strict=True))


async def bench(num_rounds: int, num_steps: int) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Figures by family, way and episodes at once, for each round."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=max(AT_ONCE))
    with serving() as url:
        async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=60, trust_env=False) as client:
            for family in ("echo", "tools"):
                task, message = await acts(family)
                ways = {
                    "in process": lambda family=family: make_env(family),
                    "openk2": lambda family=family: ServiceEnv(url, family),
                    "httpx2": lambda family=family: ByHttpx(client, family),
                }
                for _ in range(num_rounds):
                    for at_once in AT_ONCE:
                        for way, make in ways.items():
                            got = await measured([make() for _ in range(at_once)], task, message, num_steps)
                            figures = found.setdefault(family, {}).setdefault(f"{way}, {at_once}", {})
                            for name, figure in got.items():
                                figures.setdefault(name, []).append(figure)
    return found


def table(results: dict) -> str:
    """The figures in Markdown."""
    p = results["provenance"]
    lines = [
        f"`python -m bench.service`, commit {p['commit']}, {p['machine']}, python {p['python']}, {p['date']}.",
        f"Steps of environments over loopback; medians of {results['rounds']} alternating rounds of {results['steps']} steps.",
        "",
        "| environment | episodes at once | way | steps/s | p50, ms | p99, ms | CPU of the caller, ms a step |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, columns in results["medians"].items():
        for at_once in AT_ONCE:
            for way in WAYS:
                rate, p50, p99, cpu = (columns[f"{way}, {at_once}"][name] for name in FIGURES)
                lines.append(f"| {family} | {at_once} | {way} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {cpu:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path("results/service.json"), help="where to write the JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return run(make_env, ("echo", "tools"), ServiceConfig(port=0), lambda line: print(line, flush=True))
    rounds = asyncio.run(bench(args.rounds, args.steps))
    medians = {
        family: {
            column: {name: statistics.median(values) for name, values in figures.items()}
            for column, figures in columns.items()
        }
        for family, columns in rounds.items()
    }
    results = {
        "provenance": provenance(), "rounds": args.rounds, "steps": args.steps, "medians": medians, "all_rounds": rounds
    }  # fmt: skip
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(results))
    print(table(results))
    return None


if __name__ == "__main__":
    main()
