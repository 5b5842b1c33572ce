"""One self-contained page about a run: ``report.html``.

Python decides what is shown, `report.html.j2` how. The page carries its own style and charts, loads
nothing, runs no script, and escapes every text, since a trajectory may contain anything.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from openk2.jobs.atomic import write_text
from openk2.schema import JSON
from openk2.view.chart import Chart, Series, line_chart, number
from openk2.view.choose import Example, choose
from openk2.view.conversation import MAX_TEXT, conversation
from openk2.view.rl import figures
from openk2.view.rl import panels as rl_panels
from openk2.view.rl.read import Learning
from openk2.view.run import EVALUATED, SETS, TRAINING, Run, read_run

CHARTS = (
    Chart("Loss", "loss", noisy=True),
    Chart("Reward", "reward", noisy=True, from_zero=True),
    Chart("Share of rollouts that pass", "pass_rate", noisy=True, from_zero=True),
    Chart("Learning rate", "lr", from_zero=True),
    Chart("Largest attention logit", "max_logit", from_zero=True),
    Chart("Largest attention logit, a line for each layer", "max_logit/", from_zero=True),
    Chart("Heads clipped by QK-Clip", "clipped_heads", from_zero=True),
    Chart("γ of the head that QK-Clip scaled most", "min_gamma", from_zero=True),
    Chart("Expert load, max over mean", "expert_load", noisy=True),
    Chart("Response length, tokens", "response_tokens", noisy=True),
    Chart("Groups with mixed reward", "mixed_groups", noisy=True, from_zero=True),
    Chart("KL divergence", "kl", noisy=True),
    Chart("Loss on demonstrations (PTX)", "ptx_loss", noisy=True),
)

PANELS = (
    ("Pre-training", ("pretrain",)),
    ("Fine-tuning", ("sft", "sft_control")),
    ("Reinforcement learning", ("rl",)),
)
"""Curve panels and the stages drawn into each."""
RL_TRACES = 4
"""Traces shown of reinforcement learning: so many of the worst, and of the best."""


def write_report(run_dir: Path) -> Path:
    """Write ``run_dir/report.html`` from what the run has written so far, and return its path.

    Parts a run has not reached do not appear. Raises ValueError when ``run_dir`` is no run folder.
    """
    run = read_run(run_dir)
    learning = _learning(run_dir)
    panels = PANELS[:-1] if learning else PANELS  # what has a part of its own is not shown twice
    jinja = Environment(
        loader=PackageLoader("openk2.view", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"percent": percent, "duration": duration, "number": number, "p_value": _p_value, "points": points}
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
        rl=learning,
        panels=[panel for title, names in panels if (panel := _panel(title, names, run.metrics))["charts"]],
        funnel=run.funnel,
        examples=[_example(example) for example in choose(run.episodes)],
    )
    path = run_dir / "report.html"
    write_text(path, page)
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


def points(difference: float) -> str:
    """A difference of shares in signed percentage points."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def _p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _headline(run: Run) -> str:
    """What came out, in a sentence."""
    tasks = run.summary.get("tasks", {})
    stages = tasks.get("demonstrated", {})
    last = next((stage for stage in ("rl", "sft", "base") if stage in stages), None)
    if last is None:
        trained = [title.lower() for stage, title in TRAINING.items() if stage in run.metrics]
        return f"A run through {' and '.join(trained)}." if trained else "A run that has just begun."
    text = f"Solves {percent(stages[last]['pass_at_1'])} % of held-out tasks of the kinds it was shown"
    if last != "base" and "base" in stages:
        text += f" ({percent(stages['base']['pass_at_1'])} % before fine-tuning)"
    others = {"undemonstrated": "of kinds it was never shown", "unseen_domain": "in a domain it never met"}
    rates = [
        f"{percent(tasks[s][last]['pass_at_1'])} % {what}" for s, what in others.items() if last in tasks.get(s, {})
    ]
    return f"{text}{''.join(f', {rate}' for rate in rates)}."


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
    training = summary.get("training", {})
    for key, label in (
        ("tokens_per_second", "Tokens per second"),
        ("heldout_bits_per_byte", "Bits per byte, held out"),
    ):
        facts += [
            (f"{label}, {TRAINING.get(stage, stage)}", number(figures[key])) for stage, figures in training.items()
        ]
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


def _learning(run_dir: Path) -> JSON | None:
    """Reinforcement learning from inside; None where the run told no more than a few metrics of it."""
    learning = Learning(run_dir)
    learning.poll()
    if not learning.has_insides:
        return None
    return {
        "newest": figures.newest(learning.metrics),
        "families": rl_panels.family_panels(learning.metrics),
        "time": rl_panels.time_panel(learning.time_line),
        "course": rl_panels.course_panels(learning.metrics),
        "counters": figures.counters(learning.metrics),
        "traces": [
            {**rl_panels.story(rollout, learning.rollouts.trace(rollout), MAX_TEXT), "stage": f"Step {rollout.step}"}
            for rollout in rl_panels.examples(learning.rollouts, RL_TRACES)
        ],
    }


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
    for chart in CHARTS:
        series = [
            Series(TRAINING[stage], line, f"stage-{stage}")
            for stage in stages
            for metric in _members(chart.metric, metrics[stage])
            if (line := [(s["step"], s[metric]) for s in metrics[stage] if s.get(metric) is not None])
        ]
        svg = line_chart(series, label=f"{title}: {chart.label}", smooth=chart.noisy, includes=chart.includes)
        if svg:
            last = number(float(f"{series[0].points[-1][1]:.3g}"))
            heads = metrics[stages[0]][-1].get("num_heads")
            note = f" of {heads}" if chart.metric == "clipped_heads" and heads else ""
            charts.append({"label": chart.label, "svg": svg, "last": f"{last}{note}"})
    legend = [(TRAINING[stage], f"stage-{stage}") for stage in stages] if len(stages) > 1 else []
    return {"title": title, "charts": charts, "legend": legend}


def _members(metric: str, steps: list[JSON]) -> list[str]:
    """The metric itself, or those of its family that the last step has."""
    return [key for key in steps[-1] if key.startswith(metric)] if metric.endswith("/") else [metric]


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
        "episodes": [{"stage": EVALUATED[episode.stage], **conversation(trace, MAX_TEXT)} for episode, trace in traces],
    }
