"""What a sandbox costs: cycles a second, the wait for a start, boxes alive at once; and execution tasks a second.

A cycle makes a box, runs `true` in it and throws it away, with all limits active. The start is the time from asking for a box to
the first byte that its program writes. Tasks are played by the scripted teacher (faultless, then sloppy) and by one who does nothing.

    python -m bench.sandbox --out results/sandbox.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from openk2.jobs.provenance import provenance
from openk2.sandbox.config import Limits
from openk2.sandbox.enclosure import enclosure
from openk2.sandbox.once import Runner
from openk2.sandbox.pool import Pool
from openk2.sandbox.sandbox import Sandbox
from openk2.schema import Task
from openk2.stats import wilson
from openk2.worlds.execution.record import play
from openk2.worlds.execution.tasks import FAMILIES, make_task
from openk2.worlds.execution.world import BoxWorld

IN_FLIGHT = 8
SLOPPINESS = 0.3


async def throughput(work: Callable[[int], Awaitable[None]], count: int) -> float:
    """Items a second, ``IN_FLIGHT`` at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for item in left:
            await work(item)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - began)


async def cycle(number: int) -> None:
    result = await Sandbox().run(["true"])
    assert result.outcome == "ok", result


async def first_byte_ms(pool: Runner | None) -> float:
    """Milliseconds from asking for a box to what its program says first: the time, on the clock we share."""
    began = time.time()
    result = await Sandbox(pool=pool).run(["date", "+%s.%N"])
    return 1e3 * (float(result.stdout) - began)


async def starts(count: int) -> dict[str, dict[str, float]]:
    cold = [await first_byte_ms(None) for _ in range(count)]
    warm = []
    async with Pool(4) as pool:
        for _ in range(count):
            await asyncio.sleep(0.1)  # an agent thinks between two calls
            warm.append(await first_byte_ms(pool))
    return {name: percentiles(values) for name, values in (("cold", cold), ("warm", warm))}


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {f"p{q}_ms": ordered[min(len(ordered) * q // 100, len(ordered) - 1)] for q in (50, 99)}


async def alive(count: int) -> dict[str, float]:
    """Boxes that are up at the same moment, each with a program then, and the host's memory that each takes."""
    before = available_bytes()
    async with Pool(count, Limits(wall_s=60)) as pool:
        while pool.num_ready < count:
            await asyncio.sleep(0.1)
        boxes = [asyncio.create_task(Sandbox(pool=pool).run(["sleep", "8"])) for _ in range(count)]
        lowest = before
        while not all(box.done() for box in boxes):
            lowest = min(lowest, available_bytes())
            await asyncio.sleep(0.1)
        results = [box.result() for box in boxes]
    return {"asked": count, "ok": sum(r.outcome == "ok" for r in results), "mb_each": (before - lowest) / count / 1e6}


def available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


async def tasks(count: int, pool: Pool) -> dict[str, dict]:
    """By family: tasks a second of the teacher, and pass rates with 95 % intervals of three agents."""
    found = {}
    for family in FAMILIES:
        made = [make_task(family, "bench", index) for index in range(count)]
        passed = {"teacher": 0, "sloppy": 0, "null": 0}

        async def teach(index: int, who: str, made: list[Task] = made, passed: dict[str, int] = passed) -> None:
            record = await play(
                made[index], seed=0, sloppiness=SLOPPINESS * (who == "sloppy"), recipe="bench", pool=pool
            )
            passed[who] += "stage" not in record

        async def idle(index: int, made: list[Task] = made, passed: dict[str, int] = passed) -> None:
            world = BoxWorld(made[index].payload, pool=pool)
            await world.start()
            assert made[index].rubric is not None
            passed["null"] += (await world.score(made[index].rubric, "Done.")).passed

        rate = await throughput(lambda index, teach=teach: teach(index, "teacher"), count)
        await throughput(lambda index, teach=teach: teach(index, "sloppy"), count)
        await throughput(idle, count)
        found[family] = {
            "tasks": count,
            "tasks_per_second": rate,
            "passed": {who: _rate(number, count) for who, number in passed.items()},
        }
    return found


def _rate(num_passed: int, n: int) -> list[float]:
    estimate = wilson(num_passed, n)
    return [estimate.value, estimate.low, estimate.high]


async def bench(num_cycles: int, num_starts: int, num_alive: int, num_tasks: int) -> dict:
    await throughput(cycle, 20)
    results = {
        "provenance": provenance() | {"cores": str(os.cpu_count())},
        "holds": enclosure().holds(),
        "cycles": num_cycles,
        "cycles_per_second": await throughput(cycle, num_cycles),
        "start": await starts(num_starts),
        "alive": await alive(num_alive),
    }
    async with Pool(4) as pool:
        return results | {"tasks": await tasks(num_tasks, pool)}


def table(results: dict) -> str:
    """The figures in Markdown."""
    p, start, alive_ = results["provenance"], results["start"], results["alive"]
    lines = [
        f"`python -m bench.sandbox`, commit {p['commit']}, {p['machine']}, {p['cores']} cores, python {p['python']}, {p['date']}.",
        "",
        f"{results['cycles_per_second']:.0f} create-run-destroy cycles a second over {results['cycles']}, all limits active. "
        f"First byte of a program after {start['warm']['p50_ms']:.1f} ms (p99 {start['warm']['p99_ms']:.1f}) from the pool, "
        f"{start['cold']['p50_ms']:.1f} ms (p99 {start['cold']['p99_ms']:.1f}) without. "
        f"{alive_['ok']:.0f} of {alive_['asked']:.0f} boxes alive at once, {alive_['mb_each']:.1f} MB each.",
        "",
        "| limit | held by |",
        "|---|---|",
        *(f"| `{limit}` | {by} |" for limit, by in results["holds"].items()),
        "",
        f"| tasks | a second | teacher passes | errs in {SLOPPINESS:.0%} | does nothing | n |",
        "|---|---|---|---|---|---|",
    ]
    for family, of in results["tasks"].items():
        rates = (f"{rate:.1%} [{low:.1%}, {high:.1%}]" for rate, low, high in of["passed"].values())
        lines.append(f"| {family} | {of['tasks_per_second']:.1f} | {' | '.join(rates)} | {of['tasks']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=6000)
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--alive", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("results/sandbox.json"), help="where to write the JSON")
    args = parser.parse_args()
    results = asyncio.run(bench(args.cycles, args.starts, args.alive, args.tasks))
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
