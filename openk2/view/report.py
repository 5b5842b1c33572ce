"""One self-contained page about a run: ``report.html``.

Python decides what is shown, `report.html.j2` how. The page carries its own style and charts, loads
nothing, runs no script, and escapes every text, since a trajectory may contain anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from openk2.schema import JSON, Message, ToolCall, Trace
from openk2.view.chart import Series, line_chart, number
from openk2.view.choose import Example, choose
from openk2.view.run import EVALUATED, SETS, TRAINING, Run, read_run

MAX_TEXT = 4000
"""Characters of one message that a page shows."""

CHARTS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("Loss", ("loss",), True),
    ("Reward", ("reward",), True),
    ("Share of rollouts that pass", ("pass_rate",), True),
    ("Learning rate", ("lr",), False),
    ("Largest attention logit", ("max_logit",), False),
    ("Heads clipped by QK-Clip", ("clipped_heads",), False),
    ("Expert load, max over mean", ("expert_load",), True),
    ("Response length, tokens", ("response_tokens",), True),
    ("Groups with mixed reward", ("mixed_groups",), True),
    ("KL divergence", ("kl",), True),
    ("Loss on demonstrations (PTX)", ("ptx_loss",), True),
)
"""Title, metrics drawn together, and whether they are noisy."""

PANELS = (
    ("Pre-training", ("pretrain",)),
    ("Fine-tuning", ("sft", "sft_control")),
    ("Reinforcement learning", ("rl",)),
)
"""Curve panels and the stages drawn into each."""


def write_report(run_dir: Path) -> Path:
    """Write ``run_dir/report.html`` from what the run has written so far, and return its path.

    Parts a run has not reached do not appear. Raises ValueError when ``run_dir`` is no run folder.
    """
    run = read_run(run_dir)
    jinja = Environment(
        loader=PackageLoader("openk2.view", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"percent": percent, "duration": duration, "number": number, "p_value": _p_value}
    page = jinja.get_template("report.html.j2").render(
        name=run.name,
        recipe=run.recipe_text,
        headline=_headline(run),
        facts=_facts(run.summary),
        stages=_stage_times(run.summary),
        sets=SETS,
        evaluated=EVALUATED,
        tasks=run.summary.get("tasks", {}),
        comparisons=run.summary.get("comparisons", {}),
        avg_at_k=run.summary.get("avg_at_k", {}),
        by_kind=_by_kind(run.summary.get("by_kind", {})),
        panels=[panel for title, names in PANELS if (panel := _panel(title, names, run.metrics))["charts"]],
        funnel=run.funnel,
        examples=[_example(example) for example in choose(run.episodes)],
    )
    path = run_dir / "report.html"
    beside = path.with_suffix(".html.partial")
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, path)
    return path


def percent(share: float) -> str:
    """A share as a percentage, with one decimal below 99.95 %."""
    return "100" if share >= 0.9995 else f"{100 * share:.1f}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 3 min 20 s, 1 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _headline(run: Run) -> str:
    """What came out, in a sentence."""
    stages = run.summary.get("tasks", {}).get("demonstrated", {})
    last = next((stage for stage in ("rl", "sft", "base") if stage in stages), None)
    if last is None:
        trained = [title.lower() for stage, title in TRAINING.items() if stage in run.metrics]
        return f"A run through {' and '.join(trained)}." if trained else "A run that has just begun."
    rate = f"{percent(stages[last]['pass_at_1'])} % of held-out tasks solved"
    if last == "base" or "base" not in stages:
        return f"{rate}."
    return f"{rate}, up from {percent(stages['base']['pass_at_1'])} % before it was taught."


def _facts(summary: JSON) -> list[tuple[str, str]]:
    """Figures and circumstances of the run, as label and text."""
    facts = []
    for key, label in (("recipe", "Recipe"), ("commit", "Commit"), ("machine", "Machine"), ("date", "Date")):
        if summary.get(key):
            facts.append((label, str(summary[key])))
    if summary.get("seconds"):
        facts.append(("Total time", duration(sum(summary["seconds"].values()))))
    if summary.get("peak_rss_bytes"):
        facts.append(("Peak memory", f"{summary['peak_rss_bytes'] / 2**30:.1f} GiB"))
    for key, label in (
        ("tokens_per_second", "Tokens per second"),
        ("heldout_bits_per_byte", "Bits per byte, held out"),
    ):
        figure = summary.get(key)
        if isinstance(figure, Mapping):
            facts += [(f"{label}, {TRAINING.get(stage, stage)}", number(value)) for stage, value in figure.items()]
        elif figure is not None:
            facts.append((label, number(figure)))
    return facts


def _stage_times(summary: JSON) -> list[JSON]:
    """Seconds of each stage beside its budget, as shares of the longest."""
    seconds, budgets = summary.get("seconds", {}), summary.get("budget_seconds", {})
    longest = max([*seconds.values(), *budgets.values()], default=0.0) or 1.0
    return [
        {
            "title": TRAINING.get(stage, stage.replace("_", " ").capitalize()),
            "seconds": spent,
            "share": spent / longest,
            "budget": budgets.get(stage),
            "budget_share": budgets[stage] / longest if stage in budgets else None,
        }
        for stage, spent in seconds.items()
    ]


def _by_kind(section: JSON) -> JSON:
    """{set: {kind: {stage: rate}}}: a row for each kind."""
    out: JSON = {}
    for task_set, stages in section.items():
        rows: JSON = out.setdefault(task_set, {})
        for stage, kinds in stages.items():
            for kind, rate in kinds.items():
                rows.setdefault(kind, {})[stage] = rate
    return out


def _panel(title: str, names: tuple[str, ...], metrics: dict[str, list[JSON]]) -> JSON:
    """The charts of stages that belong together; a metric nobody recorded has none."""
    stages = [name for name in names if name in metrics]
    charts = []
    for label, keys, noisy in CHARTS:
        series = [
            Series(TRAINING[stage], points, f"stage-{stage}")
            for stage in stages
            for key in keys
            if (points := [(step["step"], step[key]) for step in metrics[stage] if step.get(key) is not None])
        ]
        if svg := line_chart(series, label=f"{title}: {label}", smooth=noisy):
            charts.append({"label": label, "svg": svg, "last": _last(label, series[0], metrics[stages[0]])})
    legend = [(TRAINING[stage], f"stage-{stage}") for stage in stages] if len(stages) > 1 else []
    return {"title": title, "charts": charts, "legend": legend}


def _last(label: str, series: Series, steps: list[JSON]) -> str:
    """The value a curve ends at."""
    value = number(series.points[-1][1])
    heads = steps[-1].get("num_heads")
    return f"{value} of {heads}" if label.startswith("Heads") and heads else value


def _example(example: Example) -> JSON:
    """An example as the template wants it."""
    traces = [(episode, episode.trace()) for episode in example.episodes]
    question = next((m.content for m in traces[-1][1].messages if m.role == "user"), example.episodes[-1].task_id)
    return {
        "set": SETS[example.task_set][0],
        "kind": example.episodes[-1].kind,
        "verdict": example.verdict,
        "passed": example.episodes[-1].passed,
        "question": question,
        "episodes": [{"stage": EVALUATED[episode.stage], **_conversation(trace)} for episode, trace in traces],
    }


def _conversation(trace: Trace) -> JSON:
    """A trace as turns, with its verdict."""
    return {
        "system": [clip(message.content) for message in trace.messages if message.role == "system"],
        "tools": [tool.to_json()["function"] for tool in trace.tools],
        "turns": [_turn(message) for message in trace.messages if message.role != "system"],
        "score": trace.score.total if trace.score else None,
        "parts": trace.score.parts if trace.score else {},
        "stop_reason": trace.stop_reason or "none",
        "error": trace.info.get("error"),
        "num_sampled": trace.num_sampled,
    }


def _turn(message: Message) -> JSON:
    content = pretty_json(message.content) if message.role == "tool" else message.content
    return {"role": message.role, "content": clip(content), "calls": [_call(call) for call in message.tool_calls]}


def _call(call: ToolCall) -> JSON:
    return {"name": call.name, "arguments": clip(pretty_json(call.arguments)), "error": call.error}


def pretty_json(text: str) -> str:
    """JSON laid out for reading, short values on one line; other text as it is."""
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError:
        return text
    flat = json.dumps(data, ensure_ascii=False)
    return flat if len(flat) <= 60 else json.dumps(data, ensure_ascii=False, indent=2)


def clip(text: str) -> str:
    """The first ``MAX_TEXT`` characters, saying how many are left out."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}\n… {len(text) - MAX_TEXT} more characters"
