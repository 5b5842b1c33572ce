"""The gym in figures: what agents by rule earn in each family, how its verifiers do on replies judged by hand, episodes a second.

    python -m bench.gym

Every agent plays the same tasks, of all splits. Episodes a second are those of the gold agent in two processes, for --seconds or --episodes,
whatever ends first; memory is that of a process after a tenth of them and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

from openk2.gym import catalogue
from openk2.gym.agents import agents_of, play
from openk2.gym.family import Family
from openk2.gym.measure import measure
from openk2.jobs.atomic import write_json, write_text
from openk2.jobs.provenance import provenance
from openk2.schema import Task
from tests.gym.judged import SAYS, accuracy

RESULTS = Path(__file__).parents[1] / "results"
BOXED = ("execution", "code", "swe")  # each episode takes sandboxes
NUM_PROCESSES = 2


def some(family: Family, count: int) -> list[Task]:
    """Tasks of all splits, as evenly as they have them."""
    env, share = family.make(), -(-count // len(family.splits))
    return [task for split in family.splits for task in env.tasks(split)[:share]][:count]


def agents(name: str, count: int) -> dict:
    """What each agent earns."""
    family = catalogue.family(name)
    tasks, found = some(family, count), {}
    for agent, moves in agents_of(family).items():
        measured = asyncio.run(measure(family, moves, tasks))
        passed = measured.passed
        found[agent] = {
            "passed": [passed.value, passed.low, passed.high],
            "earned_anything": len(measured.earned),
            "broken": measured.broken,
        }
    return {"tasks": len(tasks), "chance": family.chance, "agents": found}


def episodes(name: str, count: int, most: int, seconds: float) -> dict:
    """Gold episodes of one process, one after the other."""
    family = catalogue.family(name)
    tasks = some(family, count)
    return asyncio.run(_episodes(family, tasks, most, seconds))


async def _episodes(family: Family, tasks: Sequence[Task], most: int, seconds: float) -> dict:
    env = family.make()
    await play(env, tasks[0], family.gold)
    began, memory, number = time.perf_counter(), [], 0
    for number, task in enumerate(cycle(tasks), start=1):
        trace = await play(env, task, family.gold, seed=number)
        assert trace.score is not None and trace.score.passed, task.id  # noqa: PT018
        elapsed = time.perf_counter() - began
        if not memory and (number >= most / 10 or elapsed > seconds / 10):
            memory.append(resident_mb())
        if number == most or elapsed > seconds:
            break
    return {"episodes": number, "per_second": number / elapsed, "mb": [*memory, resident_mb()]}


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def throughput(name: str, count: int, most: int, seconds: float) -> dict:
    """Two processes at once."""
    with ProcessPoolExecutor(NUM_PROCESSES, mp_context=get_context("spawn")) as pool:
        each = [pool.submit(episodes, name, count, most // NUM_PROCESSES, seconds) for _ in range(NUM_PROCESSES)]
        found = [future.result() for future in each]
    return {
        "episodes": sum(one["episodes"] for one in found),
        "per_second": sum(one["per_second"] for one in found),
        "mb_early": max(one["mb"][0] for one in found),
        "mb_late": max(one["mb"][-1] for one in found),
    }


def table(record: dict) -> str:
    """The figures in Markdown."""
    names = list(record["families"])
    heads = list(next(iter(record["families"].values()))["agents"])
    lines = [
        f"`{record['command']}`, commit {record['commit']}, {record['machine']}, python {record['python']}, {record['date']}.",
        "",
        "Tasks passed; 95 % interval for the random agent. Agents other than gold and random earned nothing, not even in part, where it says 0.",
        "",
        f"| family | tasks | {' | '.join(heads)} | stated chance | episodes/s | episodes | MB early, late |",
        f"|---|---|{'---|' * len(heads)}---|---|---|---|",
    ]
    for name in names:
        of = record["families"][name]
        cells = []
        for agent, found in of["agents"].items():
            value, low, high = found["passed"]
            told = f"{value:.1%} [{low:.1%}, {high:.1%}]" if agent == "random" else f"{value:.1%}"
            cells.append("0" if not found["earned_anything"] and agent != "random" else told)
        speed = of["throughput"]
        lines.append(
            f"| {name} | {of['tasks']} | {' | '.join(cells)} | {of['chance']:.1%} | {speed['per_second']:.0f} | "
            f"{speed['episodes']} | {speed['mb_early']:.0f}, {speed['mb_late']:.0f} |"
        )
    lines += [
        "",
        "Replies judged by hand against the verifiers. The rules were mended on most of these rows: what the rows did when they were new is on the families' pages.",
        "",
        "| family | rows | right | false accepts | false rejects |",
        "|---|---|---|---|---|",
    ]
    for name, of in record["verifiers"].items():
        lines.append(f"| {name} | {of['rows']} | {of['right']} | {of['false_accepts']} | {of['false_rejects']} |")
    if box := record["sandbox"]:
        start = box["start"]["warm"]
        lines += [
            "",
            f"Sandbox: {box['cycles_per_second']:.0f} create-run-destroy cycles a second, start {start['p50_ms']:.1f} ms (p99 {start['p99_ms']:.1f}) "
            f"from the pool, {box['alive']['ok']} of {box['alive']['asked']} boxes alive at once ([sandbox](sandbox.md)).",
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200, help="tasks of each family")
    parser.add_argument("--boxed-tasks", type=int, default=24, help="the same, where each takes sandboxes")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--families", nargs="*", default=list(catalogue.NAMES))
    args = parser.parse_args()
    found = {}
    for name in args.families:
        count = args.boxed_tasks if name in BOXED else args.tasks
        found[name] = agents(name, count) | {"throughput": throughput(name, count, args.episodes, args.seconds)}
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    box = RESULTS / "sandbox.json"
    record = {
        "command": "python -m bench.gym",
        **provenance(),
        "families": found,
        "verifiers": {name: accuracy(name) for name in SAYS if name in args.families},
        "sandbox": json.loads(box.read_text()) if box.exists() else None,
    }
    write_json(RESULTS / "gym.json", record)
    write_text(RESULTS / "gym.md", table(record))
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
