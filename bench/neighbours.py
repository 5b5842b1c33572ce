"""Count what of others' benchmarks becomes tasks of ours, and hold every task against its gates.

    python -m bench.neighbours --data DIR

DIR holds bfcl, acebench_en and tau2 as their authors publish them; one that is not there is left out. Writes
results/neighbours.json and its table.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openk2.jobs.atomic import write_json, write_text
from openk2.jobs.provenance import provenance
from openk2.schema import Task
from openk2.worlds.neighbours import call_gates, desk_gates
from openk2.worlds.neighbours.acebench import read_acebench
from openk2.worlds.neighbours.bfcl import read_bfcl
from openk2.worlds.neighbours.mapped import Mapped
from openk2.worlds.neighbours.tau2 import Domain, read_domain, read_tasks

RESULTS = Path(__file__).parents[1] / "results"
CALL_GATES = ("gold", "empty", "wrong")
DESK_GATES = ("oracle", "replay", "idle", "part", "silent", "trespass")


def measure(data: Path) -> dict[str, dict[str, Any]]:
    """By benchmark and category: the counts, and how many mapped tasks fail each gate."""
    found: dict[str, dict[str, Any]] = {}
    for name, folder, read in (("BFCL v4", "bfcl", read_bfcl), ("ACEBench English", "acebench_en", read_acebench)):
        if (data / folder).is_dir():
            found[name] = with_gates(read(data / folder), call_gates.failed_gates, CALL_GATES)
    for folder in sorted((data / "tau2").glob("*/tasks.json")):
        domain = read_domain(folder.parent)
        found.setdefault("tau2-bench", {}).update(desk(domain, read_tasks(domain, folder)))
    return found


def with_gates(mapped: Mapped, failed_gates: Callable[[Task], list[Any]], gates: tuple[str, ...]) -> dict[str, Any]:
    """The counts by category, each with the failures by gate."""
    counts = mapped.counts()
    for category, each in counts.items():
        failed = Counter(gate for task in mapped.tasks if task.kind == category for gate in failed_gates(task))
        each["failed_gates"] = {gate: failed[gate] for gate in gates}
    return counts


def desk(domain: Domain, mapped: Mapped) -> dict[str, Any]:
    """The same for a desk's tasks, and what they are made of."""
    counts = with_gates(mapped, lambda task: desk_gates.failed_gates(domain, task), DESK_GATES)
    for each in counts.values():
        each["tasks_that_write"] = sum(desk_gates.writes(domain, task) for task in mapped.tasks)
        each["tasks_with_facts"] = sum(bool(task.payload["facts"]) for task in mapped.tasks)
        each["statements_left_to_a_judge"] = sum(len(task.payload["statements"]) for task in mapped.tasks)
    return counts


def table(record: dict[str, Any]) -> str:
    """The counts in Markdown."""
    lines = [
        f"`{record['command']}`, commit {record['commit']}, {record['machine']}, {record['date']}.",
        "",
        "| benchmark | category | items | mapped | refused | mapped tasks that fail a gate |",
        "|---|---|---|---|---|---|",
    ]
    for benchmark, categories in record["benchmarks"].items():
        for category, each in categories.items():
            refused = "; ".join(f"{count} {reason}" for reason, count in each["refused"].items())
            failed = ", ".join(f"{gate} {count}" for gate, count in each["failed_gates"].items() if count)
            cells = (benchmark, category, each["items"], each["mapped"], refused or "0", failed or "0")
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with the benchmarks' own files")
    data = parser.parse_args().data
    if data is None:
        print("neighbours: --data names no folder with bfcl, acebench_en or tau2; nothing measured")
        return 0
    benchmarks = measure(data)
    if not benchmarks:
        print(f"neighbours: {data} has no bfcl, acebench_en or tau2", file=sys.stderr)
        return 1
    record = {"command": "python -m bench.neighbours --data DIR", **provenance(), "benchmarks": benchmarks}
    write_json(RESULTS / "neighbours.json", record)
    write_text(RESULTS / "neighbours.md", table(record))
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
