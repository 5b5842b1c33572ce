"""Where the time goes: idle is when no process computes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from openk2.jobs import jsonl
from openk2.train.timeline import Span, Timeline, TimelineLog


def test_idle_is_what_no_process_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    timeline = Timeline()
    now = 110.0
    timeline.add(
        [
            Span(0, "rollout", 100.0, 103.0),
            Span(1, "rollout", 101.0, 105.0),
            Span(0, "environments", 103.0, 106.0),
            Span(0, "train", 106.0, 108.0),
            Span(0, "judge", 102.0, 104.0),
            Span(0, "save", 108.0, 109.0),
        ]
    )
    assert timeline.idle_share() == pytest.approx(0.3), "105 to 106, and from 108 on"
    rows = timeline.take()
    assert [(row["worker"], row["what"], row["start"]) for row in rows[:3]] == [
        (0, "rollout", 0.0),
        (0, "judge", 2.0),
        (0, "environments", 3.0),
    ]
    now = 112.0
    timeline.add([Span(0, "train", 110.0, 111.0)])
    assert timeline.idle_share() == pytest.approx(0.5), "a step begins where the last one ended"


def test_a_span_is_noted_when_it_fails() -> None:
    timeline = Timeline()

    def fail() -> None:
        with timeline.span("save"):
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        fail()
    assert [row["what"] for row in timeline.take()] == ["save"]


def test_the_log_drops_what_is_done_again(tmp_path: Path) -> None:
    for from_step, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        with TimelineLog(tmp_path, from_step=from_step) as log:
            for step in steps:
                log.add(step, [])
    assert [(row["step"], row["run"]) for row in jsonl.read(tmp_path / "timeline.jsonl")] == [
        (1, 0), (2, 0), (3, 1), (4, 1),
    ]  # fmt: skip
