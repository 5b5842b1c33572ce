"""Our client against the bare SDK: answers a second, and CPU time of each, with 256 in flight to one local server.

The server (`tests/llm/server.py`, a process of its own) answers after a fixed time. Once it never fails; once it fails
one call in ten: 503, 429 with Retry-After, time-out, cut connection, broken JSON. The peer is OpenAI's AsyncOpenAI with
its own retries, as many and as patient as ours. Both sides alternate, medians count. Lost: calls that got no answer.

    python -m bench.llm
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import openai

from openk2.jobs.executor import run_jobs
from openk2.jobs.provenance import provenance
from openk2.llm.config import EndpointConfig
from openk2.llm.endpoint import Endpoint
from openk2.schema import Message, Sampling

IN_FLIGHT = 256
ATTEMPTS, ATTEMPT_S, HANG_S = 8, 5.0, 6.0
LATENCY_S = 0.1
Ask = Callable[[int], Awaitable[str]]


@contextlib.contextmanager
def serving(share: float, seed: int) -> Iterator[str]:
    """The address of a server that fails this share of its calls."""
    flags = {"--failing": share, "--seed": seed, "--latency": LATENCY_S, "--hang": HANG_S}
    command = [sys.executable, "-m", "tests.llm.server", *(str(word) for pair in flags.items() for word in pair)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        wait_for(address)
        yield address
    finally:
        server.kill()
        server.wait(10)


def wait_for(address: str) -> None:
    """Until the server answers: it has no models to list."""
    client = openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=10)
    with client, contextlib.suppress(openai.NotFoundError):
        client.models.list()


@dataclass(frozen=True)
class Round:
    """Answers a second, milliseconds of the client's own CPU time for each, and calls that got none."""

    rate: float
    cpu_ms: float
    lost: int


async def drive(ask: Ask, num_calls: int) -> Round:
    """All calls, as many at once as may be."""
    began, cpu, lost = time.perf_counter(), time.process_time(), 0
    async for outcome in run_jobs(ask, range(num_calls), num_workers=IN_FLIGHT, limit_s=300):
        lost += outcome.value != f"echo: call {outcome.item}"
    num_answers = num_calls - lost
    cpu_ms = 1000 * (time.process_time() - cpu) / num_answers
    return Round(num_answers / (time.perf_counter() - began), cpu_ms, lost)


async def ours(address: str, num_calls: int) -> Round:
    """Through our layer."""
    config = EndpointConfig(
        base_url=address, model="m", max_in_flight=IN_FLIGHT, max_attempts=ATTEMPTS, attempt_s=ATTEMPT_S
    )
    async with Endpoint(config) as endpoint:

        async def ask(number: int) -> str:
            answer = await endpoint.complete([Message("user", f"call {number}")], [], Sampling())
            return answer.content

        return await drive(ask, num_calls)


async def bare(address: str, num_calls: int) -> Round:
    """Through the SDK alone."""
    async with openai.AsyncOpenAI(
        base_url=address, api_key="none", max_retries=ATTEMPTS - 1, timeout=ATTEMPT_S
    ) as client:

        async def ask(number: int) -> str:
            done = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": f"call {number}"}], temperature=1.0, max_tokens=512
            )
            return done.choices[0].message.content or ""

        return await drive(ask, num_calls)


def measure(share: float, num_calls: int, rounds: int) -> dict:
    """Both sides in turn, each on a fresh server with the same seed."""
    sides: dict[str, list[Round]] = {"openk2": [], "openai": []}
    for seed in range(rounds):
        for name, side in (("openk2", ours), ("openai", bare)):
            with serving(share, seed) as address:
                sides[name].append(asyncio.run(side(address, num_calls)))
    return {
        "failing": share,
        "answers_per_second": {name: statistics.median(r.rate for r in runs) for name, runs in sides.items()},
        "cpu_ms": {name: statistics.median(r.cpu_ms for r in runs) for name, runs in sides.items()},
        "rounds": {name: [round(r.rate, 1) for r in runs] for name, runs in sides.items()},
        "lost": {name: sum(r.lost for r in runs) for name, runs in sides.items()},
        "calls": num_calls * rounds,
        "ratio": statistics.median(o.rate / p.rate for o, p in zip(sides["openk2"], sides["openai"], strict=True)),
    }


def table(results: dict) -> str:
    """The Markdown beside the JSON."""
    stamp = results["provenance"]
    lines = [
        f"`python -m bench.llm`, commit {stamp['commit']}, {stamp['machine']}, openai {openai.__version__}, "
        f"{stamp['date']}.",
        f"{IN_FLIGHT} calls in flight, {LATENCY_S:g} s an answer, one local server; "
        f"medians of {results['num_rounds']} alternating rounds.",
        "",
        "| calls that fail | client | answers/s | CPU ms an answer | lost | openk2 is faster by |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        for name, label, ratio in (("openk2", "openk2", f"{row['ratio']:.2f}"), ("openai", "the SDK alone", "")):
            lines.append(
                f"| {row['failing']:.0%} | {label} | {row['answers_per_second'][name]:.0f} "
                f"| {row['cpu_ms'][name]:.1f} | {row['lost'][name]} of {row['calls']} | {ratio} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000, help="calls a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/llm.json"), help="where to write; .md lies beside")
    args = parser.parse_args()
    rows = [measure(share, args.calls, args.rounds) for share in (0.0, 0.1)]
    results = {"provenance": provenance(), "in_flight": IN_FLIGHT, "num_rounds": args.rounds, "rows": rows}
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
