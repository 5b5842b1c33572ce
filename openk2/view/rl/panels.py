"""The figures drawn: plain JSON with SVG in it, for the live page and for the report alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from openk2.schema import JSON, Trace
from openk2.view.chart import Series, line_chart, number
from openk2.view.conversation import clip, conversation
from openk2.view.rl import figures
from openk2.view.rl.gantt import colour, time_line
from openk2.view.rl.metrics import Metrics
from openk2.view.rl.rollouts import Rollout, Rollouts
from openk2.view.rl.spans import TimeLine, add_up

SHOWN_STEPS = 6
"""Steps of the time line at once."""
MAX_FACT = 300
"""Characters of a fact about a trace."""


def family_panels(metrics: Metrics) -> list[JSON]:
    """A chart of reward with its interval for each family, and its figures."""
    found = []
    for family in figures.families(metrics):
        reward = family.reward
        _, value, low, high = reward.rows[-1]
        series = Series(family.name, reward.points, "stage-rl", reward.band)
        found.append(
            {
                "name": family.name,
                "svg": line_chart([series], label=f"Reward in {family.name}", includes=(0.0, 1.0)),
                "value": f"{value:.3f}",
                "interval": f"{low:.2f} to {high:.2f}" if low == low else "",
                "window": reward.window,
                "gain": None if family.gain is None else f"{family.gain:+.3f}".replace("-", "−"),
                "rose": (family.gain or 0.0) >= 0,
                "num_rollouts": family.num_rollouts,
                "pass_rate": _text(family.pass_rate, ".0%"),
                "response_tokens": _text(family.response_tokens, ".0f"),
                "truncated": _text(family.truncated, ".0%"),
            }
        )
    return found


def course_panels(metrics: Metrics, family: str | None = None) -> list[JSON]:
    """The other charts, each with its newest value."""
    return [
        {
            "label": chart.label,
            "last": number(float(f"{points[-1, 1]:.3g}")),
            "svg": line_chart(
                [Series(chart.label, points, "stage-rl")],
                label=chart.label,
                smooth=chart.noisy,
                includes=chart.includes,
            ),
        }
        for chart, points in figures.course(metrics, family)
    ]


def time_panel(line: TimeLine, step: int | None = None) -> JSON | None:
    """The time line of a few steps up to ``step``, with what took how much of it and of the whole run."""
    stretches = line.until(step, SHOWN_STEPS)
    if not stretches:
        return None
    first, last = stretches[0].step, stretches[-1].step
    return {
        "first": first,
        "last": last,
        "svg": time_line(stretches, label=f"Time line of steps {first} to {last}"),
        "shown": _shares(add_up(stretch.seconds() for stretch in stretches)),
        "whole": _shares(line.seconds()),
    }


def examples(rollouts: Rollouts, count: int) -> list[Rollout]:
    """The ``count`` worst and the ``count`` best of the newest steps, of as many families as there are."""
    recent = figures.newest_traces(rollouts)
    best = _spread(figures.ranked(recent, family=None, best=True), count)
    left = [rollout for rollout in recent if rollout not in best]
    return [*_spread(figures.ranked(left, family=None, best=False), count), *best]


def row(rollout: Rollout) -> JSON:
    """A line of a list."""
    return {
        "step": rollout.step,
        "place": rollout.place,
        "family": rollout.family,
        "kind": rollout.kind,
        "reward": None if rollout.reward is None else number(float(f"{rollout.reward:.3g}")),
        "good": rollout.reward is not None and rollout.reward >= 1.0,
        "stop_reason": rollout.stop_reason,
        "request": rollout.request,
    }


def story(rollout: Rollout, trace: Trace, most: int | None = None) -> JSON:
    """A trace as turns, with all that is known of it. Texts longer than ``most`` are clipped."""
    told = {"id": trace.id, "task": trace.task_id, "seed": trace.seed, **trace.info}
    facts = {
        str(name).replace("_", " "): clip(f"{value:.4g}" if isinstance(value, float) else str(value), MAX_FACT)
        for name, value in told.items()
        if isinstance(value, str | int | float) and name not in ("error", "reward") and value != ""
    }
    return {**row(rollout), **conversation(trace, most), "facts": facts}


def _spread(ranked: Sequence[Rollout], count: int) -> list[Rollout]:
    """The first ones, of families not yet chosen as long as there are any."""
    left, chosen = list(ranked), []
    seen: Counter[str] = Counter()
    for _ in range(min(count, len(left))):
        choice = min(left, key=lambda rollout: seen[rollout.family])
        left.remove(choice)
        seen[choice.family] += 1
        chosen.append(choice)
    return chosen


def _shares(seconds: dict[str, float]) -> list[JSON]:
    return [
        {"title": doing.title, "share": doing.share, "computes": doing.computes,
         "colour": colour(doing.what) if doing.what else "do-nothing"}
        for doing in figures.doings(seconds)
    ]  # fmt: skip


def _text(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)
