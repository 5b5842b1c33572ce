from __future__ import annotations

import io

import pytest
from rich.console import Console

from openk2.view.live import LiveView, Progress, clock_time, sparkline


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def metrics(step: int, **more: float) -> dict[str, float]:
    return {
        "step": step, "loss": 5 - 0.01 * step, "lr": 0.02, "tokens_per_second": 9123.0, "max_logit": 88.25,
        "clipped_heads": 3, "num_heads": 24, "expert_load": 1.31, **more,
    }  # fmt: skip


def follow(terminal: bool, steps: int, seconds_per_step: float, **options: float) -> str:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    with LiveView("pretrain", console=console, clock=clock, **options) as view:
        for step in range(1, steps + 1):
            clock.now += seconds_per_step
            view.update(metrics(step))
    return out.getvalue()


def test_reinforcement_learning_shows_its_critic_and_its_idle_time() -> None:
    out = io.StringIO()
    with LiveView("rl", console=Console(file=out, width=100), clock=Clock()) as view:
        view.update({"step": 3, "reward": 0.5, "critic_accuracy": 0.8125, "idle_share": 0.064})
    assert out.getvalue() == "rl  step 3  reward 0.500  critic accuracy 0.812  idle 6.4%\n"


def test_plain_lines_where_nobody_watches() -> None:
    lines = follow(False, steps=100, seconds_per_step=0.5, num_steps=100).splitlines()
    assert 5 <= len(lines) <= 7  # 50 seconds, a line every ten, and the last step
    assert lines[0].startswith("pretrain  step 1/100  loss 4.9900  lr 2.00e-02  tokens/s 9,123  max logit 88.2")
    assert "clipped heads 3/24  expert load 1.31" in lines[0]
    assert "step 100/100" in lines[-1]
    assert all("\x1b" not in line for line in lines)


def test_the_last_step_is_shown_once() -> None:
    assert len(follow(False, steps=1, seconds_per_step=1.0).splitlines()) == 1


def test_a_terminal_gets_a_panel_at_most_four_times_a_second() -> None:
    out = follow(True, steps=1000, seconds_per_step=0.001, num_steps=1000)
    assert 4 <= out.count("expert load") <= 7
    assert "step 1000/1000" in out


def test_the_time_left_is_the_smaller_bound() -> None:
    clock = Clock()
    view = LiveView("rl", num_steps=100, budget_seconds=60, console=Console(file=io.StringIO()), clock=clock)
    with view:
        assert view.seconds_left() == 60
        clock.now += 10
        view.update(metrics(10, reward=0.5))
        assert view.seconds_left() == 50  # 90 steps at a second each would take longer
        clock.now += 0.1
        view.update(metrics(90, reward=0.5))
        assert view.seconds_left() == pytest.approx(10 * 10.1 / 81)
    assert LiveView("sft", console=Console(file=io.StringIO())).seconds_left() is None


def test_a_resumed_stage_counts_its_own_steps() -> None:
    clock = Clock()
    with LiveView("sft", num_steps=200, console=Console(file=io.StringIO()), clock=clock) as view:
        for step in range(101, 111):
            clock.now += 2
            view.update(metrics(step))
        assert view.seconds_left() == pytest.approx(90 * 2)


def test_a_failing_stage_leaves_the_terminal_whole() -> None:
    out = io.StringIO()

    def fail() -> None:
        with LiveView("sft", console=Console(file=out, force_terminal=True)) as view:
            view.update(metrics(1))
            raise RuntimeError("nan")

    with pytest.raises(RuntimeError, match="nan"):
        fail()
    assert "\x1b[?25h" in out.getvalue()  # the cursor is back


def test_sparkline() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([float("nan"), 1.0, 1.0], 8) == "▁▁"
    assert sparkline([], 8) == ""
    assert len(sparkline(list(range(1000)), 40)) == 40


def test_progress_counts() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, width=100)) as bar:
        task = bar.add_task("evaluate rl", total=4)
        bar.advance(task, 4)
    assert "4/4" in out.getvalue()


def test_clock_time() -> None:
    assert [clock_time(s) for s in (5, 65.4, 3661)] == ["0:05", "1:05", "1:01:01"]
