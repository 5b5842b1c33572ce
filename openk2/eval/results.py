"""What an evaluation found: one outcome per episode, and the numbers drawn from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.schema import JSON
from openk2.stats import Estimate, avg_at_k, wilson


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judged episode, without its tokens."""

    task_id: str
    sample: int
    kind: str
    app: str
    score: float
    stop_reason: str | None

    @property
    def passed(self) -> bool:
        """True when nothing is missing."""
        return self.score >= 1.0

    @classmethod
    def from_trace_json(cls, data: JSON) -> Outcome:
        """Read the line of a trace that `evaluate` wrote. An episode nobody judged counts as 0."""
        about = data["info"]["eval"]
        score = data["score"]["total"] if data.get("score") else 0.0
        return cls(data["task_id"], about["sample"], about["kind"], about["app"], score, data.get("stop_reason"))


@dataclass(frozen=True, slots=True)
class Results:
    """The outcomes of one policy on one set of tasks."""

    outcomes: tuple[Outcome, ...]

    @property
    def num_env_errors(self) -> int:
        """Episodes lost to their environment; each counts as failed."""
        return sum(outcome.stop_reason == "env_error" for outcome in self.outcomes)

    @property
    def stop_reasons(self) -> dict[str, int]:
        """How episodes ended, most frequent first."""
        return dict(Counter(outcome.stop_reason or "none" for outcome in self.outcomes).most_common())

    def pass_at_1(self) -> Estimate:
        """The share of tasks solved at the first attempt, with its Wilson interval."""
        return _pass_rate([outcome for outcome in self.outcomes if outcome.sample == 0])

    def by_kind(self) -> dict[str, Estimate]:
        """Pass@1 for each kind of task."""
        return self._broken_down(lambda outcome: outcome.kind)

    def by_app(self) -> dict[str, Estimate]:
        """Pass@1 for each app (the domain a task lives in)."""
        return self._broken_down(lambda outcome: outcome.app)

    def avg_at_k(self, *, seed: int) -> Estimate:
        """The mean share of passes over each task's samples, with an interval that clusters over tasks."""
        samples: dict[str, list[float]] = {}
        for outcome in self.outcomes:
            samples.setdefault(outcome.task_id, []).append(float(outcome.passed))
        return avg_at_k(list(samples.values()), seed=seed)

    def passes(self) -> dict[str, bool]:
        """Whether each task was solved at the first attempt: what a paired comparison needs."""
        return {outcome.task_id: outcome.passed for outcome in self.outcomes if outcome.sample == 0}

    def _broken_down(self, group_of: Callable[[Outcome], str]) -> dict[str, Estimate]:
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            if outcome.sample == 0:
                groups.setdefault(group_of(outcome), []).append(outcome)
        return {name: _pass_rate(groups[name]) for name in sorted(groups)}


def _pass_rate(outcomes: list[Outcome]) -> Estimate:
    return wilson(sum(outcome.passed for outcome in outcomes), len(outcomes))


def trace_lines(path: Path) -> Iterator[Any]:
    """The traces of an evaluation file as plain JSON. Raises ValueError naming a line that is none."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number} is not a JSON trace: {error}") from None


def read_results(path: Path) -> Results:
    """The results of a finished evaluation file, in the order of task and sample."""
    outcomes = [Outcome.from_trace_json(data) for data in trace_lines(path)]
    return Results(tuple(sorted(outcomes, key=lambda outcome: (outcome.task_id, outcome.sample))))
