"""What can be mined: repository tasks from real commits and from injected bugs, why others are not kept, and what three agents earn.

A path with a .git is walked commit by commit; any other folder, such as an unpacked source distribution, gets bugs put in. The runner is
unittest or pytest, and packages are what its tests import beside it.

    python -m bench.swe --out results/swe.json PATH:RUNNER[:PACKAGE,PACKAGE] …
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from pathlib import Path
from random import Random

from openk2.gym.agents import null, peek, play
from openk2.gym.swe.env import FAMILY, SweConfig, SweEnv
from openk2.gym.swe.inject import Kept, inject
from openk2.gym.swe.mine import mine, source_tree
from openk2.gym.swe.suite import LIMITS
from openk2.jobs.provenance import provenance
from openk2.schema import Task
from openk2.stats import wilson

A_RUN = LIMITS.model_copy(update={"cpu_s": 30.0, "wall_s": 45.0})  # of the tests, with a bug put in: some never end


async def earned(tasks: list[Task]) -> dict[str, list[float]]:
    """The share of tasks that each agent passes, with its 95 % interval."""
    found = {}
    for name, moves in (("gold", FAMILY.gold), ("null", null), ("peeks", peek)):
        env = SweEnv(SweConfig())
        traces = [await play(env, task, moves) for task in tasks]
        estimate = wilson(sum(trace.score is not None and trace.score.passed for trace in traces), len(tasks))
        found[name] = [estimate.value, estimate.low, estimate.high]
    return found


async def of(path: Path, runner: str, packages: tuple[str, ...], most: int) -> tuple[dict, list[Task]]:
    if (path / ".git").exists():
        how, found = "mined", list((await mine(path, runner, limit=20 * most, most=most, packages=packages)).values())
    else:
        how, found = (
            "injected",
            await inject(source_tree(path), runner, path.name, Random(0), most, packages=packages, limits=A_RUN),
        )
    tasks = [one.task for one in found if one.task is not None]
    return {"how": how, "runner": runner, **counted(found)} | ({"earned": await earned(tasks)} if tasks else {}), tasks


def counted(found: list[Kept]) -> dict:
    return {"candidates": len(found), "reasons": dict(Counter(one.reason for one in found))}


async def bench(repositories: list[str], most: int, keep: Path | None, out: Path) -> None:
    """Bench each repository and write what is known after each, as the whole takes long."""
    results: dict = {"provenance": provenance(), "repositories": {}}
    kept = []
    for words in repositories:
        path, runner, *packages = words.split(":")
        place = Path(path).resolve()
        try:
            about, tasks = await of(place, runner, tuple(packages[0].split(",")) if packages else (), most)
        except ValueError as error:
            about, tasks = {"how": "", "runner": runner, "candidates": 0, "reasons": {str(error): 1}}, []
        results["repositories"][place.name] = about
        kept += tasks
        print(place.name, about, flush=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        out.with_suffix(".md").write_text(table(results))
        if keep is not None:
            keep.write_text("".join(json.dumps(task.to_json()) + "\n" for task in kept))


def table(results: dict) -> str:
    """The figures in Markdown."""
    p = results["provenance"]
    lines = [
        f"`python -m bench.swe`, commit {p['commit']}, {p['machine']}, python {p['python']}, {p['date']}.",
        "",
        "| repository | how | runner | tried | kept | gold | null | peeks | why others not |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, about in results["repositories"].items():
        reasons = dict(about["reasons"])
        kept = reasons.pop("kept", 0)
        shares = [f"{about['earned'][who][0]:.0%}" if kept else "" for who in ("gold", "null", "peeks")]
        others = "; ".join(f"{reason}: {count}" for reason, count in reasons.items())
        cells = [name, about["how"], about["runner"], str(about["candidates"]), str(kept), *shares, others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repositories", nargs="*", default=[".:pytest"], help="PATH:RUNNER[:PACKAGE,PACKAGE]")
    parser.add_argument("--most", type=int, default=10, help="tries in each")
    parser.add_argument("--keep", type=Path, help="file for the tasks, as SweConfig.tasks reads them")
    parser.add_argument("--out", type=Path, default=Path("results/swe.json"))
    arguments = parser.parse_args()
    asyncio.run(bench(arguments.repositories, arguments.most, arguments.keep, arguments.out))


if __name__ == "__main__":
    main()
