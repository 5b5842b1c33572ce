"""Tool worlds at full size: the apps and tools that evolve, and 20 000 long trajectories over them, on this machine's cores.

Every tool is tried, and a map of them drawn; with ``--crawled``, a file of declarations from real servers, those lie on
top. Trajectories a second and core counts everything: tasks and their gates, play, faults, rubric, writing. Then every
trajectory kept is played again from its calls, and must end in the state it tells of.

    python -m bench.worlds
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from openk2.jobs import jsonl
from openk2.jobs.atomic import write_json, write_text
from openk2.jobs.provenance import provenance
from openk2.worlds.evolve.author import ScriptedAuthor, app_ids
from openk2.worlds.evolve.config import EvolveConfig
from openk2.worlds.evolve.coverage import breadth
from openk2.worlds.evolve.self_check import self_check
from openk2.worlds.mcp.crawled import read_crawled
from openk2.worlds.scenario.record import replays
from openk2.worlds.scenario.synthesize import KEPT, SynthesisConfig, scenario_of, synthesize
from openk2.worlds.tools import compile_tools


def tools(config: EvolveConfig, crawled: Path | None, picture: Path) -> dict[str, Any]:
    """Count the tools, try every one, draw them."""
    from openk2.worlds.evolve.map import Labelled, draw_map  # half a gigabyte of libraries, which no worker needs

    ids, author = list(app_ids(config)), ScriptedAuthor(config)
    apps = [author.author(app_id) for app_id in ids]
    began = time.perf_counter()
    tried = self_check(apps)
    seconds = time.perf_counter() - began
    evolved = [
        Labelled(spec, app_id.category) for app_id, app in zip(ids, apps, strict=True) for spec in compile_tools(app)
    ]
    real = [Labelled(tool.spec, tool.category, is_real=True) for tool in read_crawled(crawled).tools] if crawled else []
    return {
        "categories": len({app_id.category for app_id in ids}),
        **asdict(breadth(apps)),
        "tried_calls": tried.num_calls.total(),
        "tried_seconds": seconds,
        "tried_wrong": len(tried.faults),
        "map": draw_map([*evolved, *real], picture),
    }


def replay(config: SynthesisConfig, lines: list[str]) -> int:
    """How many of the records, those of one task together, replay."""
    records = [json.loads(line) for line in lines]
    return sum(
        replays(record, scenario, config.faults)
        for index, group in groupby(records, key=lambda record: int(record["id"].split("#")[0].rsplit("-", 1)[1]))
        for scenario in [scenario_of(config, index)]
        for record in group
    )


def chunks(path: Path, size: int) -> Iterable[list[str]]:
    """The lines of a file, so many at a time."""
    lines: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            lines.append(line)
            if len(lines) == size:
                yield lines
                lines = []
    if lines:
        yield lines


def trajectories(config: SynthesisConfig, folder: Path) -> dict[str, Any]:
    """Write them, and play those kept again."""
    began = time.perf_counter()
    funnel = synthesize(config, folder)
    seconds = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    calls, faults, turns = [], Counter[str](), []
    for record in jsonl.read(folder / KEPT):
        calls.append(len(record["calls"]))
        turns.append(sum(message["role"] == "user" for message in record["messages"]))
        faults.update(call["fault"] for call in record["calls"] if call["fault"])
    written = sum(
        1 for file in folder.glob("*.jsonl") for record in jsonl.read(file) if record.get("stage") in (None, "judge")
    )
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        replayed = sum(pool.map(replay, *zip(*((config, lines) for lines in chunks(folder / KEPT, 500)), strict=True)))
    return {
        "trajectories": written,
        "kept": len(calls),
        "seconds": seconds,
        "per_second_and_core": written / seconds / cores,
        "cores": cores,
        "largest_worker_bytes": usage.ru_maxrss * 1024,
        "mean_calls": statistics.mean(calls),
        "most_calls": max(calls),
        "mean_turns": statistics.mean(turns),
        "faults": dict(faults.most_common()),
        "replayed": replayed,
        "funnel": funnel.to_json(),
    }


def table(results: dict[str, Any]) -> str:
    """The figures in Markdown."""
    p, t, w = results["provenance"], results["trajectories"], results["tools"]
    reasons = "; ".join(
        f"{stage}: {row['kept']} kept, {row['rejected']} not ({', '.join(f'{r} {n}' for r, n in list(row['reasons'].items())[:3])})"
        for stage, row in t["funnel"].items()
    )
    return (
        f"`python -m bench.worlds`, commit {p['commit']}, {p['machine']}, {t['cores']} cores, {p['date']}.\n\n"
        f"| | |\n|---|---|\n"
        f"| tools | {w['num_distinct']} distinct of {w['num_tools']} in {w['num_apps']} apps of {w['categories']} categories; {w['num_skeletons']} skeletons |\n"
        f"| with a neighbour at Jaccard 0.8 or more | {w['share_near_duplicates']:.2%} |\n"
        f"| tried | {w['tried_calls']} calls, one of each tool to succeed, in {w['tried_seconds']:.0f} s on one core; {w['tried_wrong']} went wrong |\n"
        f"| of a tool's ten neighbours in words, of its own category | {w['map']['purity_in_features']:.0%}, in the map {w['map']['purity_in_plane']:.0%}, by chance {w['map']['purity_by_chance']:.0%} |\n"
        f"| trajectories written | {t['trajectories']} in {t['seconds']:.0f} s: {t['per_second_and_core']:.0f} a second and core |\n"
        f"| kept | {t['kept']}, of which {t['replayed']} replay to their state |\n"
        f"| calls, turns | {t['mean_calls']:.1f} calls in the mean, {t['most_calls']} at most; {t['mean_turns']:.1f} turns of the user |\n"
        f"| faults among those kept | {', '.join(f'{name} {count}' for name, count in t['faults'].items())} |\n"
        f"| memory of the largest worker, with this benchmark's libraries | {t['largest_worker_bytes'] / 2**20:.0f} MB |\n"
        f"| yield | {reasons} |\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/worlds.json"), help="where to write the JSON")
    parser.add_argument("--tasks", type=int, default=5000, help="tasks, of which each is played four times")
    parser.add_argument("--crawled", type=Path, help="declarations of real servers (.jsonl, .jsonl.gz), for the map")
    args = parser.parse_args()
    config = SynthesisConfig(num_tasks=args.tasks)
    with tempfile.TemporaryDirectory() as folder:
        played = trajectories(config, Path(folder) / "run")  # first: forked workers count what this process holds
    results = {
        "provenance": provenance(),
        "tools": tools(config.evolve, args.crawled, args.out.with_suffix(".png")),
        "trajectories": played,
    }
    write_json(args.out, results)
    write_text(args.out.with_suffix(".md"), table(results))
    print(table(results))


if __name__ == "__main__":
    main()
