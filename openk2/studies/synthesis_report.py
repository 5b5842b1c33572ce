"""What the synthesis study found, as a table, a picture and a file of figures."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from openk2.jobs.atomic import write_bytes, write_json, write_text
from openk2.stats import t_interval
from openk2.studies.chart import BLUE, GREEN, OCHRE, RED, as_png, sheet
from openk2.studies.synthesis import FILTERED, REFERENCE, TASK_SETS, UNFILTERED
from openk2.view.picture import INK, QUIET, TITLE

Runs = list[dict[str, Any]]

# What an arm is compared with, where that is not the reference.
COMPARED_WITH = {UNFILTERED: FILTERED}
WORDS = {
    "heldout": "held-out tasks",
    "unseen_domain": "unseen domain",
    "without_faults": "no call fails",
    "every_first_call_fails": "every first call fails",
}
COLOURS = {"heldout": BLUE, "unseen_domain": GREEN, "without_faults": OCHRE, "every_first_call_fails": RED}


@dataclass(frozen=True, slots=True)
class Panel:
    """One question: arms in a row, with what they are called there, and the task sets that answer it."""

    title: str
    below: str
    arms: Mapping[str, str]
    sets: tuple[str, ...] = ("heldout", "unseen_domain")


PANELS = (
    Panel("Trajectories", "how many", {"125 trajectories": "125", "500 trajectories": "500", REFERENCE: "2000"}),
    Panel("Domains", "apps demonstrated", {"1 app": "1", "3 apps": "3", REFERENCE: "9"}),
    Panel("Filter", "teacher errs in 40 %", {FILTERED: "filtered", UNFILTERED: "unfiltered"}),
    Panel(
        "Faults in training",
        "calls that fail",
        {"no faults": "none", REFERENCE: "3 %", "more faults": "10 %"},
        ("without_faults", "every_first_call_fails"),
    ),
)


def write_report(results: Runs, folder: Path, provenance: Mapping[str, Any]) -> str:
    """Write ``study-synthesis`` as .json, .md and .png into ``folder``; return the table."""
    by_arm: dict[str, Runs] = defaultdict(list)
    for result in results:
        by_arm[result["arm"]["name"]].append(result)
    rows = [summary(name, by_arm) for name in by_arm]
    text = table(rows, results, provenance)
    write_json(folder / "study-synthesis.json", {"provenance": provenance, "arms": rows, "loss": _losses(by_arm)})
    write_text(folder / "study-synthesis.md", text)
    write_bytes(folder / "study-synthesis.png", picture(rows))
    return text


def summary(name: str, by_arm: Mapping[str, Runs]) -> dict[str, Any]:
    """One arm over its seeds. Intervals are Student's over seeds; differences are taken seed by seed."""
    runs = by_arm[name]
    reference = COMPARED_WITH.get(name, REFERENCE)
    sets = {}
    for task_set in TASK_SETS:
        shares = [run["solved"][task_set] for run in runs]
        gaps = [share - other["solved"][task_set] for share, other in zip(shares, by_arm[reference], strict=True)]
        mean, gap = t_interval(shares), t_interval(gaps)
        sets[task_set] = {
            "solved": shares,
            "mean": mean.value,
            "ci95": [mean.low, mean.high],
            "over_reference": gap.value,
            "over_reference_ci95": [gap.low, gap.high],
        }
    return {
        "arm": runs[0]["arm"],
        "seeds": len(runs),
        "reference": reference,
        "epochs": statistics.mean(run["epochs"] for run in runs),
        "sets": sets,
    }


def table(rows: Sequence[dict[str, Any]], results: Runs, provenance: Mapping[str, Any]) -> str:
    """The arms in Markdown."""
    lines = [
        f"`openk2 study synthesis`, commit {provenance['commit']}, {provenance['machine']}, "
        f"torch {provenance['torch']}, {provenance['date']}.",
        f"{len(results)} runs of {results[0]['num_steps']} steps, {rows[0]['seeds']} seeds an arm. Tasks solved at the first attempt, %; "
        "in brackets how much more than the arm compared with, and its 95 % interval over seeds.",
        "",
        f"| | epochs | compared with | {' | '.join(WORDS.values())} |",
        "|---|---|---|" + "---|" * len(WORDS),
    ]
    for row in rows:
        name, reference = row["arm"]["name"], row["reference"]
        is_reference = name == reference
        cells = [_cell(row["sets"][task_set], alone=is_reference) for task_set in WORDS]
        against = "" if is_reference else reference
        lines.append(f"| {name} | {row['epochs']:.1f} | {against} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(solved: Mapping[str, Any], *, alone: bool) -> str:
    share = f"{100 * solved['mean']:.1f}"
    if alone:
        return share
    low, high = solved["over_reference_ci95"]
    return f"{share} ({100 * solved['over_reference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}])"


def picture(rows: Sequence[dict[str, Any]]) -> bytes:
    """A PNG: a panel for each question; a line through the means, a dot for every seed."""
    by_name = {row["arm"]["name"]: row for row in rows}
    figure, [axes] = sheet(1, len(PANELS))
    axes[0].set_ylabel("tasks solved, %", fontsize=8, color=QUIET)
    for axis, panel in zip(axes, PANELS, strict=True):
        _draw(axis, panel, by_name)
    return as_png(figure)


def _draw(axis: Axes, panel: Panel, by_name: Mapping[str, dict[str, Any]]) -> None:
    """The arms that were run, at equal distances."""
    found = [name for name in panel.arms if name in by_name]
    for task_set in panel.sets:
        solved = [by_name[name]["sets"][task_set] for name in found]
        colour = COLOURS[task_set]
        axis.plot(
            range(len(found)), [100 * s["mean"] for s in solved], color=colour, label=WORDS[task_set], linewidth=1.4
        )
        for place, each in enumerate(solved):
            dots = [100 * share for share in each["solved"]]
            axis.plot([place] * len(dots), dots, "o", color=colour, markersize=3.5, alpha=0.6, markeredgewidth=0)
    axis.set_xticks(range(len(found)), [panel.arms[name] for name in found])
    axis.margins(x=0.2)
    axis.set_ylim(bottom=0)
    axis.set_title(panel.title, **TITLE)
    axis.set_xlabel(panel.below, fontsize=8, color=QUIET)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=1)


def _losses(by_arm: Mapping[str, Runs]) -> dict[str, list[list[float]]]:
    """Every tenth step of every seed."""
    return {name: [[round(value, 4) for value in run["loss"][::10]] for run in runs] for name, runs in by_arm.items()}
