"""Ctrl-C in the middle of each stage, the same command again: the numbers of a run that nobody disturbed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openk2.train.metrics import read_metrics
from tests.pipeline.conftest import command, environment, hear_ctrl_c, openk2, write_recipe

WALL_CLOCK = {"seconds", "tokens_per_second", "rollout_seconds"}
MORE = ("--pretrain.steps", "12", "--sft.steps", "12", "--rl.steps", "6")


def numbers(folder: Path, stage: str) -> list[dict[str, float]]:
    rows = read_metrics(folder / stage / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key not in WALL_CLOCK} for row in rows]


def interrupt(recipe: Path, folder: Path, ready: Callable[[], bool]) -> str:
    """Start the run, press Ctrl-C once ``ready``; what it said."""
    program = subprocess.Popen(
        command("run", recipe, "--run", folder, *MORE),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not ready():
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    program.send_signal(signal.SIGINT)
    out, error = program.communicate(timeout=60)
    assert program.returncode == 130, error
    assert error.endswith("openk2: interrupted; the same command again goes on from there\n")
    return out


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_in_every_stage_changes_nothing(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "tiny.toml")
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert openk2("run", recipe, "--run", undisturbed, *MORE).returncode == 0
    for stage in ("pretrain", "sft", "rl"):
        metrics = folder / stage / "metrics.jsonl"
        out = interrupt(recipe, folder, lambda metrics=metrics: len(read_metrics(metrics)) >= 1)
        steps = len(read_metrics(metrics))
        assert not (folder / stage / "done.json").exists(), "Ctrl-C came too late to be in the middle"
        [checkpoint] = (folder / stage / "checkpoints").iterdir()
        assert checkpoint.name == f"step-{steps:06d}", "no step is done twice"
        assert f"{stage}: ending this step" in out
    interrupt(recipe, folder, lambda: (folder / "eval" / "base-demonstrated.jsonl").exists())
    assert not (folder / "eval" / "done.json").exists()
    ended = openk2("run", recipe, "--run", folder, *MORE)
    assert ended.returncode == 0, ended.stderr
    for stage in ("worlds", "corpus", "pretrain", "sft", "rl", "sft_control"):
        assert f"{stage}: done before" in ended.stdout
    assert "eval: going on" in ended.stdout
    for stage in ("pretrain", "sft", "rl"):
        assert numbers(folder, stage) == numbers(undisturbed, stage)
    found, expected = (json.loads((each / "summary.json").read_text()) for each in (folder, undisturbed))
    assert measured(found) == measured(expected)


def measured(summary: Any) -> Any:
    """What does not depend on the clock: all but the control, whose length is RL's wall time."""
    bits = {stage: of["heldout_bits_per_byte"] for stage, of in summary["training"].items() if stage != "sft_control"}
    tasks = {
        task_set: {stage: rate for stage, rate in stages.items() if stage != "sft_control"}
        for task_set, stages in summary["tasks"].items()
    }
    return bits, tasks
