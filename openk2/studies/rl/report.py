"""What a study of reinforcement learning found: two tables, a picture and a file of figures."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from openk2.jobs.atomic import write_bytes, write_json, write_text
from openk2.schema import JSON
from openk2.stats import Estimate, mean_interval, t_interval
from openk2.studies.chart import BLUE, GREEN, OCHRE, RED, as_png, sheet
from openk2.studies.rl import lift
from openk2.studies.rl.catalogue import Course, Entry, Measure, Points, Study
from openk2.studies.rl.measure import SAMPLED, UNDEMONSTRATED
from openk2.studies.rl.run import CONTROL, RL
from openk2.studies.runs import Result
from openk2.view.picture import INK, QUIET, TITLE

COLOURS = (BLUE, OCHRE, GREEN, RED)
SCORE = Measure("score", lambda _: None)
"""How the scores of a set are written."""

ByArm = Mapping[str, Sequence[Entry]]


def write_report(
    study: Study, sft: JSON, results: Sequence[Result], folder: Path, provenance: Mapping[str, Any]
) -> str:
    """Write ``study-rl-NAME`` as .json, .md and .png into ``folder``; return the tables."""
    name, by_arm = f"study-rl-{study.plan.name}", entries(study, results)
    rows = [summary(study, arm, by_arm) for arm in by_arm]
    sets = scores_by_set(sft, by_arm)
    text = f"{heading(study, sft, results, provenance)}\n{table(study, sft, rows)}\n{set_table(sets)}"
    told = {"provenance": provenance, "claim": study.claim, "arms": rows, "sets": sets}
    if study.plan.control:
        found = lift.comparison(sft, by_arm[RL], by_arm[CONTROL])
        sharpened = lift.by_temperature(sft, by_arm[RL])
        text += f"\n{lift.table(found)}\n{lift.temperature_table(sharpened)}"
        told |= {"lift": found, "temperatures": sharpened}
    told["courses"] = {
        course.words: {arm: [course.of(entry) for entry in found] for arm, found in by_arm.items()}
        for course in study.courses
    }
    write_json(folder / f"{name}.json", told)
    write_text(folder / f"{name}.md", text)
    write_bytes(folder / f"{name}.png", picture(study, sft, by_arm))
    return text


def entries(study: Study, results: Sequence[Result]) -> dict[str, list[Entry]]:
    """By arm and in order of seeds, what its runs trained. Where RL has a control, that is the arm compared with."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for result in sorted(results, key=lambda result: int(result["seed"])):
        models = {CONTROL: [], RL: result["course"]} if study.plan.control else {RL: result["course"]}
        for name, course in models.items():
            arm = name if study.plan.control else result["arm"]["name"]
            found[arm].append({**result, "arm": arm, "model": result["models"][name], "course": course})
    first = CONTROL if study.plan.control else study.arms[0].name
    return {arm: found[arm] for arm in sorted(found, key=lambda arm: arm != first)}


def summary(study: Study, arm: str, by_arm: ByArm) -> JSON:
    """One arm over its seeds. Intervals are Student's over seeds; differences to the first arm are taken seed by seed."""
    first = next(iter(by_arm))
    measured = {}
    for measure in study.measures:
        values, theirs = ([measure.of(entry) for entry in by_arm[name]] for name in (arm, first))
        measured[measure.words] = None if None in values else _compared(measure, values, theirs)
    return {"arm": arm, "seeds": len(by_arm[arm]), "compared_with": first, "measures": measured}


def _compared(measure: Measure, values: Sequence[Any], theirs: Sequence[Any]) -> JSON:
    told: JSON = {"values": list(values), **_interval("mean", t_interval(values))}
    if None in theirs or (measure.ratio and 0 in (*values, *theirs)):
        return told
    pairs = zip(values, theirs, strict=True)
    if measure.ratio:
        logs = t_interval([math.log(value / their) for value, their in pairs])  # twice and half are as far from once
        times = Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), logs.n)
        return told | _interval("times_first", times)
    return told | _interval("over_first", t_interval([value - their for value, their in pairs]))


def _interval(name: str, found: Estimate) -> JSON:
    return {name: found.value, f"{name}_ci95": [found.low, found.high]}


def scores_by_set(sft: JSON, by_arm: ByArm) -> JSON:
    """By set and temperature: the mean score of the SFT model, and of each arm with what it has over the first.

    That comes with Student's interval over seeds and, in ``over_first_tasks_ci95``, the bootstrap over tasks of their mean over seeds.
    """
    first = next(iter(by_arm))

    def compared(arm: str, name: str, temperature: float) -> JSON:
        ours, theirs = (lift.scores(by_arm[each], name, temperature) for each in (arm, first))
        tasks = mean_interval((ours - theirs).mean(axis=0), seed=0)
        told = _compared(SCORE, ours.mean(axis=1).tolist(), theirs.mean(axis=1).tolist())
        return told | {"over_first_tasks_ci95": [tasks.low, tasks.high]}

    return {
        f"{name}, {words}": {
            "SFT": statistics.mean(at[str(temperature)]["scores"]),
            "arms": {arm: compared(arm, name, temperature) for arm in by_arm},
        }
        for name, at in sft["scores"].items()
        for temperature, words in lift.AT.items()
    }


# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------


def heading(study: Study, sft: JSON, results: Sequence[Result], provenance: Mapping[str, Any]) -> str:
    """What was run where, and what it asks."""
    seeds = len({result["seed"] for result in results})
    # What was there already may be of earlier code; before it said so, it was of the report's.
    commits = dict.fromkeys(each.get("made", {}).get("commit", provenance["commit"]) for each in (*results, sft))
    threads = "with all threads" if study.plan.all_cores else "of one thread"
    return (
        f"`openk2 study rl-{study.plan.name}`, commit {' and '.join(commits)}, {provenance['machine']}, "
        f"torch {provenance['torch']}, {provenance['date']}.\n\n"
        f"{study.claim}\n\n"
        f"{len(results)} runs {threads}, {results[0]['num_steps']} steps, {seeds} seeds an arm; scores on {study.plan.num_tasks} held-out tasks "
        "of a set at most, each family counting alike. Scores and shares in percent; in brackets the difference to the first arm (or, with ×, the ratio) and "
        "its 95 % interval over seeds (Student's) and, in the second table, over tasks (bootstrap, seeds pooled). None is corrected for their number.\n"
    )


def table(study: Study, sft: JSON, rows: Sequence[JSON]) -> str:
    """The arms by the study's measures, in Markdown. The SFT model, where training starts, has those that need no training."""
    before: Entry = {"model": sft, "course": [], "judged": [sft["judged"]] if "judged" in sft else []}
    start = [_start(measure, before) for measure in study.measures]
    lines = [
        f"| | {' | '.join(measure.words for measure in study.measures)} |",
        "|---|" + "---|" * len(study.measures),
        f"| SFT | {' | '.join(start)} |",
    ]
    for row in rows:
        cells = [_cell(measure, row["measures"][measure.words]) for measure in study.measures]
        lines.append(f"| {row['arm']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _start(measure: Measure, before: Entry) -> str:
    value = measure.of(before)
    return "" if value is None else _number(measure, value)


def _number(measure: Measure, value: float, sign: str = "") -> str:
    return f"{100 * value if measure.share else value:{sign},.{measure.digits}f}"


def _cell(measure: Measure, told: JSON | None) -> str:
    if told is None:
        return ""
    mean = _number(measure, told["mean"])
    if (times := told.get("times_first")) not in (None, 1.0):
        low, high = told["times_first_ci95"]
        return f"{mean} (×{times:.2f} [{low:.2f}, {high:.2f}])"
    if "over_first" not in told or told["over_first_ci95"] == [0.0, 0.0]:
        return mean
    ends = [told[name] for name in ("over_first_ci95", "over_first_tasks_ci95") if name in told]
    spans = (f"[{_number(measure, low, '+')}, {_number(measure, high, '+')}]" for low, high in ends)
    return f"{mean} ({_number(measure, told['over_first'], '+')} {'; '.join(spans)})"


def set_table(sets: JSON) -> str:
    """Every set by itself."""
    arms = next(iter(sets.values()))["arms"]
    lines = [f"| held-out tasks | SFT | {' | '.join(arms)} |", "|---|---|" + "---|" * len(arms)]
    for name, told in sets.items():
        cells = [_cell(SCORE, each) for each in told["arms"].values()]
        lines.append(f"| {name} | {_number(SCORE, told['SFT'])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------
# The picture
# ---------------------------------------------------------------------------------------------


def picture(study: Study, sft: JSON, by_arm: ByArm) -> bytes:
    """A PNG: scores on new kinds by family, and the study's courses over the steps."""
    figure, [axes] = sheet(1, 1 + len(study.courses))
    _draw_scores(axes[0], sft, by_arm)
    for axis, course in zip(axes[1:], study.courses, strict=True):
        _draw_course(axis, course, by_arm)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center", ncols=1 + len(by_arm), frameon=False, fontsize=8, labelcolor=INK, handlelength=1,
    )  # fmt: skip
    return as_png(figure)


def _draw_scores(axis: Axes, sft: JSON, by_arm: ByArm) -> None:
    """A dot for every seed, a dash for the SFT model."""
    sets = [name for name in sft["scores"] if name.endswith(f"/{UNDEMONSTRATED}")]
    for place, name in enumerate(sets):
        start = 100 * statistics.mean(sft["scores"][name][str(SAMPLED)]["scores"])
        axis.hlines(start, place - 0.4, place + 0.4, color=QUIET, linewidth=1, label="" if place else "SFT")
    for number, (arm, found) in enumerate(by_arm.items()):
        offset = 0.7 * ((number + 0.5) / len(by_arm) - 0.5)
        for place, name in enumerate(sets):
            dots = [100 * statistics.mean(entry["model"]["scores"][name][str(SAMPLED)]["scores"]) for entry in found]
            label = "" if place else arm
            axis.plot(
                [place + offset] * len(dots), dots, "o", color=COLOURS[number], markersize=4, alpha=0.7, label=label
            )
    axis.set_xticks(range(len(sets)), [name.partition("/")[0] for name in sets])
    axis.set_title("Score on new kinds, T = 1, %", **TITLE)


def _draw_course(axis: Axes, course: Course, by_arm: ByArm) -> None:
    """The mean over seeds, smoothed; a band spans the seeds."""
    for number, (arm, found) in enumerate(by_arm.items()):
        curves = [_smooth(points) for entry in found if (points := course.of(entry))]
        steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
        if not steps:
            continue
        values = [[curve[step] for curve in curves] for step in steps]
        colour = COLOURS[number]
        axis.plot(steps, [statistics.mean(each) for each in values], color=colour, label=arm, linewidth=1.4)
        axis.fill_between(
            steps, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.15, linewidth=0
        )
    axis.set_title(course.words, **TITLE)
    axis.set_xlabel("step", fontsize=8, color=QUIET)


def _smooth(points: Points) -> dict[float, float]:
    """The mean over a twelfth of the curve up to each point, by step; few points stay as they are."""
    reach = len(points) // 12
    return {
        step: statistics.mean(value for _, value in points[max(0, i - reach) : i + 1])
        for i, (step, _) in enumerate(points)
    }
