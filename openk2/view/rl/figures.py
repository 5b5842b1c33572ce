"""What is shown of reinforcement learning, as data: the live page and the report draw it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openk2.stats import t_interval
from openk2.view.chart import Chart, Points
from openk2.view.rl.gantt import COMPUTES, DOINGS
from openk2.view.rl.metrics import Metrics
from openk2.view.rl.rollouts import Rollout, Rollouts

MIN_WINDOW = 8
MIN_STEPS = 4  # an interval from fewer is too wide to help
MAX_INTERVALS = 120
NEWEST_TRACES = 200
NEWEST_STEPS = 16

FIGURES: tuple[tuple[str, str, str], ...] = (
    ("reward", "Reward", ".3f"),
    ("pass_rate", "Pass rate", ".1%"),
    ("idle_share", "Idle", ".1%"),
    ("tokens_per_second", "Tokens/s", ",.0f"),
    ("response_tokens", "Length, tokens", ",.0f"),
    ("critic_accuracy", "Critic accuracy", ".1%"),
    ("staleness", "Staleness", ".2f"),
    ("in_flight", "In flight", ",.0f"),
    ("temperature", "Temperature", ".2f"),
)
"""Metric, its label and format: the newest values, in this order."""

COURSE = (
    Chart("Share that pass", "pass_rate", noisy=True, from_zero=True),
    Chart("Response length, tokens", "response_tokens", noisy=True, from_zero=True),
    Chart("Truncated", "truncated", noisy=True, from_zero=True),
    Chart("Groups with mixed reward", "mixed_groups", noisy=True, from_zero=True),
    Chart("Critic accuracy, held-out pairs", "critic_accuracy"),
    Chart("Critic calibration error", "critic_ece", from_zero=True),
    Chart("Critic loss", "critic_loss", noisy=True),
    Chart("Staleness, weight versions", "staleness", noisy=True, from_zero=True),
    Chart("Oldest trained on, weight versions", "max_staleness", from_zero=True),
    Chart("Idle share", "idle_share", noisy=True, from_zero=True),
    Chart("Tokens per second", "tokens_per_second", noisy=True, from_zero=True),
    Chart("Prompts in flight", "in_flight", from_zero=True),
    Chart("Loss", "loss", noisy=True),
    Chart("KL divergence", "kl", noisy=True),
    Chart("Log ratio to the sampling policy", "log_ratio", noisy=True),
    Chart("Importance weight", "importance", noisy=True),
    Chart("Loss on demonstrations (PTX)", "ptx_loss", noisy=True),
    Chart("Sampling temperature", "temperature", from_zero=True),
)
"""What is drawn against the step; those that families have too are drawn for the family that is looked at."""

COUNTERS = (
    ("dropped", "Not trained on"),
    ("broken", "Broken environments"),
)
"""Families of counters, by reason."""
SINGLE_COUNTERS = (("paused", "Paused at a step's end"), ("resumed", "Taken up again"))


@dataclass(frozen=True, slots=True)
class Smoothed:
    """A reward as its mean over the last ``window`` steps, at some of the steps; ``low`` and ``high`` are NaN without an interval.

    The 95 % interval is Student's over the steps' means (`stats.t_interval`): prompts are drawn anew for each step,
    while rollouts of one prompt are alike, so that steps, not rollouts, are what can be counted. It ends at 0 and 1
    unless a step's mean went beyond: rewards lie between.
    """

    window: int
    rows: tuple[tuple[float, float, float, float], ...]
    """Step, value, low, high."""

    @property
    def points(self) -> list[tuple[float, float]]:
        """The line."""
        return [(step, value) for step, value, _, _ in self.rows]

    @property
    def band(self) -> list[tuple[float, float, float]]:
        """Around the line."""
        return [(step, low, high) for step, _, low, high in self.rows]


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of tasks does: its reward, and the means of the same steps. None is unknown."""

    name: str
    reward: Smoothed
    gain: float | None
    """Reward of the last window of steps less that of the first; None while they overlap."""
    num_rollouts: int
    """In all."""
    pass_rate: float | None
    response_tokens: float | None
    truncated: float | None


def window_of(num_steps: int) -> int:
    """Steps in a mean: ``MIN_WINDOW``, doubled while it stays within a tenth of the run."""
    window = MIN_WINDOW
    while window * 2 <= num_steps / 10:
        window *= 2
    return window


def smoothed(metrics: Metrics, name: str) -> Smoothed:
    """The course of a reward over the steps that have it."""
    rows = _known(metrics, name)
    values, window = rows[:, 1], window_of(len(metrics))
    lowest, highest = min([0.0, *values.tolist()]), max([1.0, *values.tolist()])
    found = []
    for end in sorted({i * (len(rows) - 1) // MAX_INTERVALS for i in range(1, MAX_INTERVALS + 1)} if len(rows) else ()):
        near = values[max(0, end + 1 - window) : end + 1].tolist()
        if len(near) >= MIN_STEPS:
            mean = t_interval(near)
            found.append((float(rows[end, 0]), mean.value, max(lowest, mean.low), min(highest, mean.high)))
        else:
            found.append((float(rows[end, 0]), math.fsum(near) / len(near), math.nan, math.nan))
    return Smoothed(window, tuple(found))


def families(metrics: Metrics) -> list[Family]:
    """Every family that has had a reward, by name."""
    found = []
    for name in metrics.members("reward"):
        values, window = _known(metrics, f"reward/{name}")[:, 1], window_of(len(metrics))
        if not len(values):
            continue
        gain = float(values[-window:].mean() - values[:window].mean()) if len(values) >= 2 * window else None
        count = np.nansum(metrics[f"rollouts/{name}"])
        means = {m: _recent(metrics, f"{m}/{name}", window) for m in ("pass_rate", "response_tokens", "truncated")}
        found.append(Family(name, smoothed(metrics, f"reward/{name}"), gain, int(count), **means))
    return found


def newest(metrics: Metrics) -> list[tuple[str, str]]:
    """Label and text of the newest values that there are."""
    known = ((label, metrics.last(name), form) for name, label, form in FIGURES)
    return [(label, format(value, form)) for label, value, form in known if value is not None]


def course(metrics: Metrics, family: str | None) -> list[tuple[Chart, Points]]:
    """The charts that have points: of a family where it has the metric, else of all."""
    found = []
    for chart in COURSE:
        own = f"{chart.metric}/{family}"
        points = _known(metrics, own if own in metrics.names else chart.metric)
        if len(points):
            found.append((chart, points))
    return found


def counters(metrics: Metrics) -> list[tuple[str, list[tuple[str, int]]]]:
    """What was counted over the whole run, by title: (reason, how many), the most frequent first."""
    found = []
    for family, title in COUNTERS:
        counts = [(reason, int(np.nansum(metrics[f"{family}/{reason}"]))) for reason in metrics.members(family)]
        if counts:
            found.append((title, sorted(counts, key=lambda pair: -pair[1])))
    single = [(title, int(np.nansum(metrics[name]))) for name, title in SINGLE_COUNTERS if name in metrics.names]
    return [*found, *([("Partial rollouts", single)] if single else [])]


@dataclass(frozen=True, slots=True)
class Doing:
    """A part of the workers' time. ``what`` is empty for time that no span tells about."""

    what: str
    title: str
    share: float
    computes: bool


def doings(seconds: Mapping[str, float]) -> list[Doing]:
    """Shares of the workers' time, known ones in the order of `gantt.DOINGS`, then others, then what is untold."""
    whole = math.fsum(seconds.values())
    order = [*DOINGS, *sorted(seconds.keys() - DOINGS.keys() - {""}), ""]
    return [
        Doing(what, DOINGS.get(what, what) or "Gaps", seconds[what] / whole, what in COMPUTES)
        for what in order
        if whole > 0 and seconds.get(what, 0.0) > 0
    ]


def newest_traces(rollouts: Rollouts) -> list[Rollout]:
    """Those of the newest steps: as many steps as it takes for ``NEWEST_TRACES``, ``NEWEST_STEPS`` at most."""
    found: list[Rollout] = []
    for step in rollouts.steps[: -NEWEST_STEPS - 1 : -1]:
        found += rollouts.of(step)
        if len(found) >= NEWEST_TRACES:
            break
    return found


def ranked(rollouts: Sequence[Rollout], *, family: str | None, best: bool) -> list[Rollout]:
    """The worst or the best first, of equal ones the newest; those without a reward at the end."""
    kept = [rollout for rollout in rollouts if family in (None, rollout.family)]
    newest_first = sorted(kept, key=lambda rollout: (-rollout.step, rollout.place))
    last = -math.inf if best else math.inf
    return sorted(newest_first, key=lambda r: last if r.reward is None else r.reward, reverse=best)


def _known(metrics: Metrics, name: str) -> Points:
    """(step, value) where there is a value."""
    rows = np.column_stack([metrics.steps, metrics[name]])
    return rows[np.isfinite(rows[:, 1])]


def _recent(metrics: Metrics, name: str, window: int) -> float | None:
    values = _known(metrics, name)[-window:, 1]
    return float(values.mean()) if len(values) else None
