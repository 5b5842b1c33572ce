"""Which families RL moved: against the SFT model and against its control, over tasks and over seeds; and whether it only sharpened."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from openk2.schema import JSON
from openk2.stats import Estimate, mean_interval, t_interval
from openk2.studies.rl.catalogue import Entry
from openk2.studies.rl.measure import GREEDY, SAMPLED

AT = {SAMPLED: "T = 1", GREEDY: "greedy"}


def comparison(sft: JSON, rl: Sequence[Entry], control: Sequence[Entry]) -> list[JSON]:
    """Every set at T = 1 and greedy: how much more RL scores than the SFT model and than the control.

    ``over_tasks`` is the bootstrap over tasks of their mean difference over seeds, ``over_seeds`` Student's interval of the seeds' mean
    differences. ``verdict`` is "rose" or "fell" where all four intervals are on that side of zero.
    """
    rows = []
    for name in sft["scores"]:
        for temperature, words in AT.items():
            ours, theirs = (scores(some, name, temperature) for some in (rl, control))
            start = np.array(sft["scores"][name][str(temperature)]["scores"])
            row: JSON = {
                "set": name,
                "at": words,
                "SFT": float(start.mean()),
                "control": float(theirs.mean()),
                "RL": float(ours.mean()),
            }
            found: list[Estimate] = []
            for against, gaps in (("SFT", ours - start), ("control", ours - theirs)):
                tasks, seeds = mean_interval(gaps.mean(axis=0), seed=0), t_interval(gaps.mean(axis=1))
                row[f"over_{against}"] = {
                    "mean": tasks.value,
                    "over_tasks": [tasks.low, tasks.high],
                    "over_seeds": [seeds.low, seeds.high],
                }
                found += [tasks, seeds]
            rows.append(row | {"verdict": _verdict(found)})
    return rows


def scores(some: Sequence[Entry], name: str, temperature: float) -> np.ndarray:
    """[seeds, tasks]"""
    return np.array([entry["model"]["scores"][name][str(temperature)]["scores"] for entry in some])


def _verdict(found: Sequence[Estimate]) -> str:
    if all(each.low > 0 for each in found):
        return "rose"
    return "fell" if all(each.high < 0 for each in found) else "not apart"


def table(rows: Sequence[JSON]) -> str:
    """In Markdown, scores in percent."""
    lines = [
        "How much more RL scores, with 95 % intervals over tasks (bootstrap, seeds pooled) and over seeds (Student's).",
        "",
        "| held-out tasks | SFT | SFT continued | RL | over SFT: tasks; seeds | over SFT continued: tasks; seeds | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        means = " | ".join(f"{100 * row[name]:.1f}" for name in ("SFT", "control", "RL"))
        gaps = " | ".join(_gap(row[f"over_{against}"]) for against in ("SFT", "control"))
        lines.append(f"| {row['set']}, {row['at']} | {means} | {gaps} | {row['verdict']} |")
    return "\n".join(lines) + "\n"


def _gap(told: JSON) -> str:
    tasks, seeds = (f"[{100 * low:+.1f}, {100 * high:+.1f}]" for low, high in (told["over_tasks"], told["over_seeds"]))
    return f"{100 * told['mean']:+.1f} {tasks}; {seeds}"


def by_temperature(sft: JSON, rl: Sequence[Entry]) -> list[JSON]:
    """The SFT model at every temperature it was measured at, beside RL at T = 1: what is learnt is more than the best of them."""
    return [
        {
            "set": name,
            "SFT": {temperature: statistics.mean(at["scores"]) for temperature, at in found.items()},
            "RL": float(scores(rl, name, SAMPLED).mean()),
        }
        for name, found in sft["scores"].items()
    ]


def temperature_table(rows: Sequence[JSON]) -> str:
    """In Markdown, scores in percent."""
    temperatures = list(rows[0]["SFT"])
    lines = [
        f"| held-out tasks | {' | '.join(f'SFT, T = {each}' for each in temperatures)} | RL, T = 1 |",
        "|---|" + "---|" * (len(temperatures) + 1),
    ]
    for row in rows:
        cells = " | ".join(f"{100 * row['SFT'][each]:.1f}" for each in temperatures)
        lines.append(f"| {row['set']} | {cells} | {100 * row['RL']:.1f} |")
    return "\n".join(lines) + "\n"
