"""A run of reinforcement learning killed at random moments, beside one left alone: what is lost, what comes twice.

Both begin from the same SFT model. Every finished rollout on the disk at a kill is looked for again at the end: in the batch of a step,
once, or among what stands still. Metrics of the last steps are compared.

    python -m bench.rl_kills --kills 20 --steps 180 --out results/rl-kills.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from openk2.jobs import jsonl
from openk2.jobs.provenance import provenance
from openk2.stats import mean_interval
from openk2.train.metrics import read_metrics

OPENK2 = (sys.executable, "-m", "openk2.cli")
COMPARED = 40  # last steps whose metrics are compared
FIGURES = ("reward", "pass_rate", "response_tokens", "loss", "kl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", type=Path, nargs="?", help="a run whose SFT is done; it is copied. By default one is made"
    )
    parser.add_argument("--recipe", type=Path, default=Path("recipes/rl.toml"))
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("runs/rl-kills"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/rl-kills.json"))
    args = parser.parse_args()
    run = args.run or fine_tuned(args.recipe, args.folder / "base")
    whole, killed = (prepared(run, args.folder / name) for name in ("whole", "killed"))
    began = time.monotonic()
    process = start(args.recipe, whole, args.steps)
    if process.wait() != 0:
        sys.exit("the run that is left alone failed")
    seconds = time.monotonic() - began
    found = kill_again_and_again(args, killed, seconds)
    result = {**provenance(), "steps": args.steps, "seconds_undisturbed": round(seconds, 1), **found}
    result["last_steps"] = {name: compare(whole, killed, name) for name in FIGURES}
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    args.out.with_suffix(".md").write_text(table(result))
    print(table(result))


def fine_tuned(recipe: Path, run: Path) -> Path:
    """The recipe's stages up to SFT; what is done is not done again."""
    subprocess.run([*OPENK2, "sft", str(recipe), "--run", str(run)], check=True)
    return run


def prepared(run: Path, to: Path) -> Path:
    """A copy of the run up to its SFT; it takes the recipe it is started with."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("recipe.toml", "rl", "sft_control", "eval"))
    return to


def start(recipe: Path, run: Path, steps: int) -> subprocess.Popen[bytes]:
    """``openk2 rl`` in a process group of its own; the rollouts of every step stay on the disk."""
    settings = ["--rl.steps", str(steps), "--rl.keep_rollouts", str(steps)]
    command = [*OPENK2, "rl", str(recipe), "--run", str(run), *settings]
    log = (run / "log.txt").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def kill_again_and_again(args: argparse.Namespace, run: Path, seconds: float) -> dict[str, object]:
    """Kill the run at moments drawn evenly over its steps and within them; then let it end."""
    rng, rollouts = random.Random(args.seed), run / "rl" / "rollouts"
    moments = sorted(rng.uniform(0, args.steps) for _ in range(args.kills))
    known: set[str] = set()
    at_steps: list[int] = []
    vanished = 0
    for moment in moments:
        process = start(args.recipe, run, args.steps)
        before = newest(rollouts)  # it is written once steps since the checkpoint are done again
        while process.poll() is None and (newest(rollouts) == before or steps_done(run) < int(moment)):
            time.sleep(0.1)
        time.sleep(moment % 1 * seconds / args.steps)
        if process.poll() is not None:
            sys.exit("the run ended before its last kill: see its log.txt")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = finished(rollouts)
        vanished += len(known - now)
        known |= now
        at_steps.append(steps_done(run))
    last = start(args.recipe, run, args.steps)
    if last.wait() != 0:
        sys.exit("the killed run did not end well: see its log.txt")
    learnt = Counter(trace["id"] for trace in traces(rollouts, "step-*.jsonl"))
    metrics = read_metrics(run / "rl" / "metrics.jsonl")
    return {
        "kills": len(at_steps),
        "killed_after_steps": at_steps,
        "finished_at_kills": len(known),
        "vanished_between_kills": vanished,
        "lost": len(known - finished(rollouts)),
        "learnt_from": len(learnt),
        "learnt_from_twice": sum(count > 1 for count in learnt.values()),
        "resumed": int(sum(row.get("resumed", 0) for row in metrics)),
        "steps_in_metrics": len(metrics),
    }


def newest(rollouts: Path) -> int:
    path = rollouts / "unfinished.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0


def steps_done(run: Path) -> int:
    rows = read_metrics(run / "rl" / "metrics.jsonl")
    return int(rows[-1]["step"]) if rows else 0


def traces(rollouts: Path, pattern: str) -> list[dict]:
    return [row.get("trace", row) for path in rollouts.glob(pattern) for row in jsonl.read(path)]


def finished(rollouts: Path) -> set[str]:
    """All rollouts that the disk says are finished, by what was drawn: one that is played again is another one."""
    found = [trace for pattern in ("arrived-*.jsonl", "step-*.jsonl") for trace in traces(rollouts, pattern)]
    path = rollouts / "unfinished.jsonl"
    for row in list(jsonl.read(path))[1:] if path.exists() else ():
        found += row["finished"].values()
    return {f"{trace['id']} {hash(json.dumps(trace['segments']))}" for trace in found}


def compare(whole: Path, killed: Path, name: str) -> dict[str, list[float]]:
    """Mean of the last steps with its interval, of both."""
    found = {}
    for key, run in (("undisturbed", whole), ("killed", killed)):
        values = [row[name] for row in read_metrics(run / "rl" / "metrics.jsonl")[-COMPARED:] if name in row]
        interval = mean_interval(values, seed=0)
        found[key] = [round(value, 4) for value in (interval.value, interval.low, interval.high)]
    return found


def table(result: dict) -> str:
    lines = [
        f"`python -m bench.rl_kills`, commit {result['commit']}, {result['machine']}, torch {result['torch']}, {result['date']}.",
        "",
        f"{result['kills']} SIGKILLs, after steps {', '.join(map(str, result['killed_after_steps']))} of {result['steps']} "
        f"({result['seconds_undisturbed']} s undisturbed).",
        "",
        "| | |",
        "|---|---|",
        f"| rollouts finished when it was killed | {result['finished_at_kills']} |",
        f"| of these lost | {result['lost']} |",
        f"| rollouts learnt from | {result['learnt_from']} |",
        f"| of these twice | {result['learnt_from_twice']} |",
        f"| paused rollouts taken up, at least | {result['resumed']} |",
        "",
        f"| mean of the last {COMPARED} steps, 95 % interval | undisturbed | killed |",
        "|---|---|---|",
    ]
    for name, both in result["last_steps"].items():
        cells = [f"{value:g} [{low:g}, {high:g}]" for value, low, high in (both["undisturbed"], both["killed"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
