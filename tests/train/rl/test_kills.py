"""A stage that is killed again and again: no finished rollout is lost or learnt from twice, paused ones go on."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from openk2.jobs import jsonl
from openk2.train.metrics import read_metrics

STEPS = 60


def start(folder: Path, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "tests.train.rl.process_to_kill", str(folder), str(STEPS), str(threads)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished_on_disk(rollouts: Path) -> set[str]:
    """Every trace that the disk says is finished."""
    found = {row["trace"]["id"] for path in rollouts.glob("arrived-*.jsonl") for row in jsonl.read(path)}
    found |= set(learnt_from(rollouts))
    if (rollouts / "unfinished.jsonl").exists():
        rows = list(jsonl.read(rollouts / "unfinished.jsonl"))[1:]
        found |= {trace["id"] for row in rows for trace in row["finished"].values()}
    return found


def written(rollouts: Path) -> int:
    """When a step last began to stand still."""
    path = rollouts / "unfinished.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0


def learnt_from(rollouts: Path) -> Counter[str]:
    paths = rollouts.glob("step-*.jsonl")
    return Counter(row["id"] for path in paths for row in jsonl.read(path))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_kills_lose_nothing_and_repeat_nothing(tmp_path: Path, threads: int) -> None:
    """With two threads a second process plays too; it is not killed, and must not be in the way of what comes after."""
    whole = start(tmp_path / "whole", threads)
    assert whole.wait(120) == 0, whole.stderr and whole.stderr.read()
    rng, rollouts = random.Random(0), tmp_path / "killed" / "rollouts"
    known: set[str] = set()
    said = ""
    for _ in range(8):
        process = start(tmp_path / "killed", threads)
        before = written(rollouts)
        while process.poll() is None and written(rollouts) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.8))
        process.kill()
        said += process.communicate()[0]
        now = finished_on_disk(rollouts)
        assert known <= now, "what was finished once stays so"
        known = now
    last = start(tmp_path / "killed", threads)
    said += last.communicate(timeout=120)[0]
    assert last.returncode == 0
    learnt = learnt_from(rollouts)
    assert set(learnt.values()) == {1}, "each rollout is learnt from once"
    unfinished = list(jsonl.read(rollouts / "unfinished.jsonl"))[1:]
    waiting = {trace["id"] for row in unfinished for trace in row["finished"].values()}
    assert known <= set(learnt) | waiting
    assert "finished rollouts and" in said, "rollouts of a killed process were taken up"
    rows = read_metrics(tmp_path / "killed" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert sum(row.get("resumed", 0) for row in rows) > 0
    undisturbed = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    last_twenty = [sum(row["reward"] for row in some[-20:]) / 20 for some in (rows, undisturbed)]
    # Two processes take turns by the clock: other rollouts end a step, and so small a stage goes another way.
    assert abs(last_twenty[0] - last_twenty[1]) < (0.2 if threads == 1 else 0.4)
