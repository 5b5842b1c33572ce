"""Reinforcement learning on a CUDA device: the micro recipe, as far as the time goes.

The stages before it are the recipe's own, shortened. The same command goes on where it stopped, so a machine that is lent in slices
gets there too; what is told is of the stage ``rl`` alone.

    python -m bench.gpu_rl --seconds 540 --out results/gpu-rl.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from openk2.jobs import jsonl
from openk2.jobs.provenance import provenance
from openk2.train.metrics import read_metrics

ROOT = Path(__file__).parents[1]
WARM_UP_STEPS = 2
SHORTENED = ("--pretrain.steps", "300", "--sft.steps", "300", "--worlds.num_train", "10000")
POLICY_ALONE = ("--rl.ptx_weight", "0")  # so that what is trained on is what was sampled


def play_on(recipe: Path, run: Path, seconds: float, flags: tuple[str, ...]) -> None:
    """``openk2 rl`` until it is done or the time is up. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "openk2.cli", "rl", str(recipe), "--run", str(run), *flags]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, cwd=ROOT, check=True, timeout=seconds)


def told(run: Path) -> dict[str, Any] | None:
    """Tokens per second of playing and of training, idle time, what the changes between them take; None before there are steps."""
    path = run / "rl" / "metrics.jsonl"
    everything = read_metrics(path) if path.exists() else []
    tokens_by = {row["step"]: row["tokens"] for row in everything}
    rows = [row for row in everything[WARM_UP_STEPS:] if "sampled_tokens" in row]  # one done again played nothing
    if len(rows) < 2:
        return None
    spans_of = {row["step"]: row["spans"] for row in jsonl.read(run / "rl" / "timeline.jsonl")}
    steps = [spans_of[row["step"]] for row in rows]

    def seconds_of(what: str) -> list[float]:
        """Of each step, in the process that leads: a GPU has one."""
        return [
            sum(span["end"] - span["start"] for span in spans if span["what"] == what and span["worker"] == 0)
            for spans in steps
        ]

    return {
        "steps": len(rows),
        "rollout_tokens_per_second": sum(row["sampled_tokens"] for row in rows) / sum(seconds_of("rollout")),
        "train_tokens_per_second": sum(row["tokens"] - tokens_by[row["step"] - 1] for row in rows)
        / sum(seconds_of("train")),
        "idle_share": statistics.mean(row["idle_share"] for row in rows),
        "optimizer_seconds": statistics.median(seconds_of("update")),
        "switch_seconds": statistics.median(seconds_of("switch")),
        "reward": [round(row["reward"], 4) for row in rows if "reward" in row],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "micro.toml")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "gpu-rl")
    parser.add_argument("--seconds", type=float, default=1500.0, help="for all stages together")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu-rl.json")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"bench.gpu_rl: torch {torch.__version__} sees no CUDA device here, so nothing was measured")
        return 0
    play_on(args.recipe, args.run, args.seconds, (*SHORTENED, *POLICY_ALONE))
    found = told(args.run)
    if found is None:
        print(f"bench.gpu_rl: no steps of RL within {args.seconds:g} s; the same command goes on")
        return 1
    result = {**provenance(torch.device("cuda")), "recipe": args.recipe.stem, **found}
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"rollout {found['rollout_tokens_per_second']:,.0f} tokens/s, training {found['train_tokens_per_second']:,.0f} tokens/s, "
        f"idle {found['idle_share']:.1%}; written to {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
