from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.view.rl.metrics import Metrics
from openk2.view.rl.panels import course_panels, family_panels, row, story, time_panel
from openk2.view.rl.read import Learning
from openk2.view.rl.rollouts import Rollouts
from openk2.view.rl.spans import TimeLine
from tests.view.rl.learning import Maker

scalars = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5)
anything = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)


def lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row_takes_back_its_step_and_later_ones() -> None:
    metrics = Metrics()
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (2, 2.5)):
        assert metrics.add({"step": step, "loss": loss})
    assert metrics.steps.tolist() == [1, 2]
    assert metrics["loss"].tolist() == [3.0, 2.5]


def test_what_a_step_lacks_is_not_a_number() -> None:
    metrics = Metrics()
    metrics.add({"step": 1, "loss": 1})
    metrics.add({"step": 2, "loss": "high", "kl": 0.5, "on": True})
    metrics.add({"step": 3, "kl": float("inf")})
    assert not metrics.add({"loss": 2.0})
    assert metrics.names == ["loss", "kl"]
    assert [math.isnan(value) for value in metrics["loss"]] == [False, True, True]
    assert [math.isnan(value) for value in metrics["kl"]] == [True, False, True]
    assert metrics.last("kl") == 0.5
    assert metrics.last("reward") is None
    assert all(map(math.isnan, metrics["reward"]))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["step", "loss", "reward/a", "reward/b", "rollouts/a"]), anything), max_size=12
    )
)
def test_any_rows_can_be_shown(rows: list[dict[str, Any]]) -> None:
    metrics = Metrics()
    for record in rows:
        metrics.add(record)
    assert metrics.steps.tolist() == sorted(set(metrics.steps.tolist()))
    for panel in (*family_panels(metrics), *course_panels(metrics, "a")):
        assert "nan" not in str(panel["svg"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "step": st.integers(0, 5) | anything,
                "run": st.integers(0, 2) | anything,
                "spans": st.lists(
                    st.fixed_dictionaries({"worker": st.integers(0, 3), "what": st.sampled_from(["rollout", "x"]), "start": st.floats(), "end": st.floats(0, 9)})
                    | st.dictionaries(st.sampled_from(["worker", "what", "start", "end"]), anything)
                ) | anything,
            },
        ),
        max_size=8,
    )
)  # fmt: skip
def test_any_time_line_can_be_shown(rows: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        line = TimeLine(lines(Path(folder) / "timeline.jsonl", rows))
        assert line.poll() == bool(rows)
        panel = time_panel(line)
        if panel:
            assert math.isclose(sum(part["share"] for part in panel["whole"]), 1.0) or not panel["whole"]
            assert "nan" not in panel["svg"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": st.text(min_size=1, max_size=4)},
            optional=dict.fromkeys(("task_id", "messages", "tools", "score", "info", "stop_reason", "segments", "versions", "more"), anything),
        )
        | st.dictionaries(st.text(max_size=3), anything, max_size=3),
        max_size=5,
    )
)  # fmt: skip
def test_any_traces_can_be_shown(records: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        lines(Path(folder) / "step-000003.jsonl", records)
        rollouts = Rollouts(Path(folder))
        rollouts.poll()
        found = rollouts.of(3)
        assert len(found) + rollouts.num_damaged == len(records)
        for rollout in found:
            told = json.dumps([row(rollout), story(rollout, rollouts.trace(rollout))], allow_nan=False)
            assert told


def test_a_run_is_followed(tmp_path: Path) -> None:
    learning = Learning(tmp_path / "run")
    assert not learning.poll()
    assert not learning.has_insides
    assert learning.seconds_since() is None
    maker = Maker(tmp_path / "run")
    for step in (1, 2, 3):
        maker.step(step)
    assert learning.poll()
    assert not learning.poll()
    assert learning.metrics.steps.tolist() == [1, 2, 3]
    assert [len(learning.rollouts.of(step)) for step in learning.rollouts.steps] == [24, 24, 24]
    # Killed within step 4, the run goes on from its checkpoint after step 2.
    rows = (learning.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (learning.folder / "metrics.jsonl").write_text("".join(rows[:2]))
    (learning.folder / "rollouts" / "step-000003.jsonl").unlink()
    with (learning.folder / "timeline.jsonl").open("a") as file:
        file.write('{"step": 4, "spa')
    assert learning.poll()
    assert learning.metrics.steps.tolist() == [1, 2]
    assert learning.rollouts.steps == [1, 2]
    with (learning.folder / "timeline.jsonl").open("a") as file:
        file.write("\n")
    maker.restart()
    maker.step(3)
    assert learning.poll()
    assert learning.metrics.steps.tolist() == [1, 2, 3]
    assert [(stretch.step, stretch.run) for stretch in learning.time_line.until(None, 9)] == [(1, 0), (2, 0), (3, 1)]
    assert learning.num_damaged == 1
    assert not learning.finished
    (learning.folder / "done.json").write_text("{}")
    assert learning.finished


def test_a_step_is_followed_while_it_lasts(made: Path, tmp_path: Path) -> None:
    whole = (made / "rl" / "rollouts" / "step-000007.jsonl").read_text().splitlines(keepends=True)
    path = tmp_path / "rollouts" / "step-000007.jsonl"
    path.parent.mkdir()
    path.write_text(whole[0] + whole[1][:40])
    rollouts = Rollouts(path.parent)
    assert rollouts.poll()
    assert len(rollouts.of(7)) == 1
    with path.open("a") as file:
        file.write(whole[1][40:])
    assert rollouts.poll()
    first, second = rollouts.of(7)
    assert rollouts.trace(second).to_json()["messages"] == json.loads(whole[1])["messages"]
    path.write_text(whole[1])
    with pytest.raises(ValueError, match="step 7 have been written anew"):
        rollouts.trace(second)
    assert [rollout.id for rollout in rollouts.of(7)] == [second.id]
    assert first.id != second.id


def test_the_time_line_of_some_steps(learning: Learning) -> None:
    assert [stretch.step for stretch in learning.time_line.until(None, 3)] == [58, 59, 60]
    assert [stretch.step for stretch in learning.time_line.until(2, 3)] == [1, 2]
    assert learning.time_line.until(0, 3) == []
