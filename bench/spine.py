"""Record a finished run: results/spine.json, its table, and the picture of the README.

make run && python -m bench.spine
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from openk2.view.picture import write_picture

STAGES = ("base", "sft", "sft_control", "rl")
COLUMNS = ("base", "SFT", "SFT continued (control)", "RL")


def table(summary: dict) -> str:
    """The run in Markdown: what made it, pass@1 by set and stage, seconds by stage."""
    lines = [
        f"`make run`, commit {summary['commit']}, {summary['machine']}, torch {summary['torch']}, {summary['date']}.",
        "",
        f"| pass@1, 95 % interval | {' | '.join(COLUMNS)} | n |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for name, stages in summary["tasks"].items():
        cells = []
        for stage in STAGES:
            rate = stages.get(stage)
            low, high = rate["ci95"] if rate else (0, 0)
            cells.append(f"{rate['pass_at_1']:.1%} [{low:.1%}, {high:.1%}]" if rate else "")
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} | {next(iter(stages.values()))['n']} |")
    seconds = summary["seconds"]
    lines += [
        "",
        f"Whole run {sum(seconds.values()):.0f} s: "
        + ", ".join(f"{stage.replace('_', ' ')} {taken:.0f}" for stage, taken in seconds.items())
        + f". Peak memory {summary['peak_rss_bytes'] / 1e9:.2f} GB. "
        f"Pre-training {summary['tokens_per_second']:,.0f} tokens/s. "
        f"Held-out text {summary['heldout_bits_per_byte']:.2f} bits per byte.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the run's summary and write the records."""
    parser = argparse.ArgumentParser(description="record a finished run")
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/nano"), help="the run's folder")
    run = parser.parse_args().run
    if not (run / "summary.json").is_file():
        print(f"spine: {run} has no summary.json yet: make run first; nothing recorded")
        return
    summary = json.loads((run / "summary.json").read_text())
    Path("results").mkdir(exist_ok=True)
    Path("results/spine.json").write_text(json.dumps({"command": "make run", **summary}, indent=2) + "\n")
    Path("results/spine.md").write_text(table(summary))
    write_picture(run, Path("docs/nano.png"))
    print(table(summary))


if __name__ == "__main__":
    main()
