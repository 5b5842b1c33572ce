"""What is shown, against numbers computed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from openk2.view.rl import figures
from openk2.view.rl.metrics import Metrics
from openk2.view.rl.panels import examples
from openk2.view.rl.read import Learning
from openk2.view.rl.rollouts import Rollout
from openk2.view.rl.spans import Span, Stretch


def told(rows: list[dict[str, float]]) -> Metrics:
    metrics = Metrics()
    for step, row in enumerate(rows, start=1):
        metrics.add({"step": step, **row})
    return metrics


def test_a_reward_is_the_mean_of_its_window_with_students_interval() -> None:
    rewards = [0.2, 0.4, 0.4, 0.6, 0.5, 0.3, 0.7, 0.5, 0.9, 0.7]
    course = figures.smoothed(told([{"reward/a": reward} for reward in rewards]), "reward/a")
    assert course.window == 8
    assert [step for step, _ in course.points] == list(range(1, 11))
    assert [value for _, value in course.points[:3]] == pytest.approx([0.2, 0.3, 1 / 3])
    assert all(math.isnan(low) and math.isnan(high) for _, low, high in course.band[:3])
    # The last eight: mean 0.575, standard deviation sqrt(0.255 / 7), t = 2.365 with seven degrees of freedom.
    _, value, low, high = course.rows[-1]
    reach = 2.365 * math.sqrt(0.255 / 7 / 8)
    assert (value, low, high) == pytest.approx((0.575, 0.575 - reach, 0.575 + reach))


def test_an_interval_of_rewards_between_0_and_1_ends_there() -> None:
    course = figures.smoothed(told([{"reward/a": float(i % 2)} for i in range(4)]), "reward/a")
    assert course.rows[-1][1:] == (0.5, 0.0, 1.0)
    course = figures.smoothed(told([{"reward/a": reward} for reward in (-0.5, 1.0, 0.0, 1.0)]), "reward/a")
    assert course.rows[-1][2:] == (-0.5, 1.0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        course = figures.smoothed(
            told([{"reward/a": value} for value in rng.binomial(20, 0.6, size=8) / 20]), "reward/a"
        )
        _, _, low, high = course.rows[-1]
        held += low <= 0.6 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_the_window_grows_with_the_run_by_doubling() -> None:
    assert [figures.window_of(n) for n in (0, 60, 159, 160, 320, 10_000)] == [8, 8, 8, 16, 32, 512]


def test_families_with_gain_and_means() -> None:
    rows = [
        {
            "reward/a": 0.1 if i < 8 else 0.6,
            "rollouts/a": 4.0,
            "pass_rate/a": i / 16,
            "truncated/a": 0.25,
            "reward/b": 1.0,
        }
        for i in range(16)
    ]
    a, b = figures.families(told(rows))
    assert (a.name, a.num_rollouts, a.truncated, a.response_tokens) == ("a", 64, 0.25, None)
    assert a.gain == pytest.approx(0.5)
    assert a.pass_rate == pytest.approx(sum(range(8, 16)) / 8 / 16)
    assert (b.name, b.num_rollouts, b.gain, b.reward.rows[-1][1:]) == ("b", 0, 0.0, (1.0, 1.0, 1.0))
    assert figures.families(told(rows[:15]))[0].gain is None


def test_the_course_is_the_familys_own_where_it_has_one() -> None:
    metrics = told([{"pass_rate": 0.5, "pass_rate/a": 0.25, "kl": 0.1}, {"pass_rate": 0.75}])
    course = {chart.metric: points.tolist() for chart, points in figures.course(metrics, "a")}
    assert course == {"pass_rate": [[1.0, 0.25]], "kl": [[1.0, 0.1]]}
    assert dict(figures.newest(metrics)) == {"Pass rate": "75.0%"}
    course = {chart.metric: points.tolist() for chart, points in figures.course(metrics, None)}
    assert course["pass_rate"] == [[1.0, 0.5], [2.0, 0.75]]


def test_counters_are_summed_over_the_run() -> None:
    metrics = told([{"dropped/stale": 1, "paused": 3}, {"dropped/uniform_group": 4, "paused": 2, "resumed": 5}])
    assert figures.counters(metrics) == [
        ("Not trained on", [("uniform_group", 4), ("stale", 1)]),
        ("Partial rollouts", [("Paused at a step's end", 5), ("Taken up again", 5)]),
    ]


def test_shares_of_the_workers_time() -> None:
    spans = (
        Span(0, "rollout", 10.0, 14.0),
        Span(0, "train", 14.0, 17.0),
        Span(1, "rollout", 10.0, 12.0),
        Span(1, "switch", 16.0, 20.0),
    )
    seconds = Stretch(1, 0, spans).seconds()
    assert seconds == {"rollout": 6.0, "train": 3.0, "switch": 4.0, "": 7.0}
    found = figures.doings(seconds)
    assert [(doing.title, doing.share, doing.computes) for doing in found] == [
        ("Rollout", 0.3, True), ("Training", 0.15, True), ("Switching", 0.2, False), ("Gaps", 0.35, False),
    ]  # fmt: skip


def test_the_idle_share_of_a_run_is_that_of_its_spans(learning: Learning) -> None:
    rows = [json.loads(line) for line in (learning.folder / "timeline.jsonl").read_text().splitlines()]
    whole = sum(2 * (max(s["end"] for s in row["spans"]) - min(s["start"] for s in row["spans"])) for row in rows)
    busy = sum(s["end"] - s["start"] for row in rows for s in row["spans"] if s["what"] in figures.COMPUTES)
    idle = sum(doing.share for doing in figures.doings(learning.time_line.seconds()) if not doing.computes)
    assert idle == pytest.approx(1 - busy / whole)


def rollout(step: int, place: int, family: str, reward: float | None) -> Rollout:
    return Rollout(step, place, f"{step}-{place}", family, "", reward, "done", "", 0, 0)


def test_ranking() -> None:
    some = [rollout(1, 0, "a", 0.5), rollout(2, 0, "b", None), rollout(2, 1, "a", 1.0), rollout(3, 0, "b", 0.5)]
    assert [r.id for r in figures.ranked(some, family=None, best=False)] == ["3-0", "1-0", "2-1", "2-0"]
    assert [r.id for r in figures.ranked(some, family=None, best=True)] == ["2-1", "3-0", "1-0", "2-0"]
    assert [r.id for r in figures.ranked(some, family="a", best=True)] == ["2-1", "1-0"]


def test_examples_are_of_many_families(learning: Learning) -> None:
    chosen = examples(learning.rollouts, 4)
    assert len({r.id for r in chosen}) == 8
    assert len({r.family for r in chosen[:4]}) == len({r.family for r in chosen[4:]}) == 4
    assert max(r.reward or 0.0 for r in chosen[:4]) < min(r.reward or 0.0 for r in chosen[4:])


def test_the_newest_traces_are_of_the_newest_steps(learning: Learning, made: Path) -> None:
    found = figures.newest_traces(learning.rollouts)
    assert len(found) == 216  # nine steps of 24 are the first to make 200
    assert {r.step for r in found} == set(range(52, 61))
