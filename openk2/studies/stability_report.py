"""What the stability study found, as a table, a picture and a file of figures."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from openk2.jobs.atomic import write_bytes, write_json, write_text
from openk2.stats import t_interval
from openk2.studies.chart import BLUE, GREEN, OCHRE, RED, as_png, sheet
from openk2.studies.stability import LENGTH, ROWS, end_of, spikes
from openk2.view.picture import INK, QUIET, TITLE

# What an arm is compared with: the MuonClip of its model.
REFERENCES = {"mla_moe": "MuonClip", "mha": "dense MHA, MuonClip", "gqa": "GQA, MuonClip"}
GOAL = "AdamW"
# Each a row of the picture.
DRAWN = (
    {"MuonClip": GREEN, "Muon": RED, "AdamW": BLUE, "AdamW + QK-Clip": OCHRE},
    {"GQA, MuonClip": GREEN, "GQA, Muon": RED, "GQA, keys left alone": BLUE, "GQA, keys for the worst head": OCHRE},
)
PANELS = (("max_logit", "Largest attention logit"), ("loss", "Loss, nats a byte"), ("clipped", "Heads clipped, %"))

Runs = list[dict[str, Any]]


def write_report(results: Runs, folder: Path, provenance: dict[str, Any]) -> str:
    """Write ``study-stability`` as .json, .md and .png into ``folder``; return the table."""
    by_arm: dict[str, Runs] = defaultdict(list)
    for result in results:
        by_arm[result["arm"]["name"]].append(result)
    rows = [summary(name, by_arm) for name in by_arm]
    text = table(rows, results, provenance)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "study-stability.json", {"provenance": provenance, "arms": rows, "curves": _curves(by_arm)})
    write_text(folder / "study-stability.md", text)
    write_bytes(folder / "study-stability.png", picture(by_arm))
    return text


def summary(name: str, by_arm: dict[str, Runs]) -> dict[str, Any]:
    """One arm over its seeds. Intervals are Student's over seeds; differences are taken seed by seed."""
    runs = by_arm[name]
    reference = REFERENCES[runs[0]["arm"]["kind"]]
    ends = [end_of(run["loss"]) for run in runs]
    gaps = [end - end_of(other["loss"]) for end, other in zip(ends, by_arm[reference], strict=True)]
    goal = statistics.mean(end_of(run["loss"]) for run in by_arm[GOAL])
    reached = [_steps_to(run["loss"], goal) for run in runs]
    gap = t_interval(gaps)
    tenth = max(1, runs[0]["num_steps"] // 10)
    return {
        "arm": name,
        "seeds": len(runs),
        "loss": statistics.mean(ends),
        "reference": reference,
        "loss_over_reference": gap.value,
        "loss_over_reference_ci95": [gap.low, gap.high],
        "largest_logit": [max(run["max_logit"]) for run in runs],
        "last_logit": statistics.mean(run["max_logit"][-1] for run in runs),
        "clipped_share": statistics.mean(statistics.mean(run["clipped"]) for run in runs),
        "clipped_share_at_the_end": statistics.mean(statistics.mean(run["clipped"][-tenth:]) for run in runs),
        "spikes": sum(spikes(run["loss"]) for run in runs),
        "svd_entropy": statistics.mean(run["svd_entropy"] for run in runs),
        "tokens_to_goal": None if None in reached else ROWS * LENGTH * statistics.mean(filter(None, reached)),
    }


def table(rows: Sequence[dict[str, Any]], results: Runs, provenance: dict[str, Any]) -> str:
    """The arms in Markdown."""
    lines = [
        f"`openk2 study stability`, commit {provenance['commit']}, {provenance['machine']}, "
        f"torch {provenance['torch']}, {provenance['date']}.",
        f"{len(results)} runs of {results[0]['num_steps']} steps of {ROWS * LENGTH} bytes, {rows[0]['seeds']} seeds an arm.",
        "",
        "| | loss | over the MuonClip of its model (95 %) | largest logit of each seed | heads clipped, at the end | spikes | "
        f"SVD entropy | tokens to {GOAL}'s loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["loss_over_reference_ci95"]
        logits = ", ".join(f"{top:.0f}" for top in row["largest_logit"])
        goal = "not reached" if row["tokens_to_goal"] is None else f"{row['tokens_to_goal'] / 1e3:.0f}k"
        gap = "" if row["arm"] == row["reference"] else f"{row['loss_over_reference']:+.3f} [{low:+.3f}, {high:+.3f}]"
        lines.append(
            f"| {row['arm']} | {row['loss']:.3f} | {gap} | {logits} | {row['clipped_share']:.0%}, "
            f"{row['clipped_share_at_the_end']:.0%} | {row['spikes']} | {row['svd_entropy']:.3f} | {goal} |"
        )
    return "\n".join(lines) + "\n"


def picture(by_arm: dict[str, Runs]) -> bytes:
    """A PNG: the largest logit, the loss, and the share of clipped heads over the steps; a band spans the seeds."""
    rows = [drawn for colours in DRAWN if (drawn := {n: c for n, c in colours.items() if n in by_arm})]
    figure, panels = sheet(len(rows), 3)
    for axes, drawn in zip(panels, rows, strict=True):
        for axis, (key, title) in zip(axes, PANELS, strict=True):
            _draw(axis, key, drawn, by_arm)
            axis.set_title(title, **TITLE)
            axis.set_xlabel("step", fontsize=8, color=QUIET)
            if key == "max_logit":
                axis.set_yscale("log")
                axis.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=1)
    return as_png(figure)


def _draw(axis: Axes, key: str, drawn: dict[str, str], by_arm: dict[str, Runs]) -> None:
    """The curves of one panel; arms that never clip have none of the clipped share."""
    for name, colour in drawn.items():
        if key == "clipped" and all(math.isinf(run["arm"]["tau"]) for run in by_arm[name]):
            continue
        curves = [_smooth(run[key]) for run in by_arm[name]]
        scale = 100.0 if key == "clipped" else 1.0
        middle = [scale * statistics.mean(values) for values in zip(*curves, strict=True)]
        steps = range(1, len(middle) + 1)
        axis.plot(steps, middle, color=colour, label=name, linewidth=1.4)
        low, high = ([scale * edge(values) for values in zip(*curves, strict=True)] for edge in (min, max))
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def _curves(by_arm: dict[str, Runs]) -> dict[str, dict[str, list[list[float]]]]:
    """Every tenth step of every seed."""
    keys = ("loss", "max_logit", "clipped")
    return {
        name: {key: [[round(value, 4) for value in run[key][::10]] for run in runs] for key in keys}
        for name, runs in by_arm.items()
    }


def _steps_to(loss: list[float], goal: float) -> int | None:
    """The first step whose smoothed loss is at the goal or below."""
    return next((step for step, value in enumerate(_smooth(loss), start=1) if value <= goal), None)


def _smooth(values: list[float]) -> list[float]:
    """The mean of up to ten steps before and with each."""
    return [statistics.mean(values[max(0, i - 9) : i + 1]) for i in range(len(values))]
