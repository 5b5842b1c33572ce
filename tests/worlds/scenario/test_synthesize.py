"""Long trajectories by the hundred: same files whoever writes them, and whatever kills the writer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openk2.jobs import jsonl
from openk2.worlds.scenario.record import replays
from openk2.worlds.scenario.synthesize import (
    FUNNEL,
    KEPT,
    REJECTED,
    Progress,
    SynthesisConfig,
    scenario_of,
    synthesize,
)

ROOT = Path(__file__).parents[3]
SMALL = SynthesisConfig(name="small", num_tasks=50, trajectories_per_task=3, executor="here")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    synthesize(SMALL, folder)
    return folder


def same(one: Path, other: Path) -> bool:
    return all((one / file).read_bytes() == (other / file).read_bytes() for file in (KEPT, REJECTED, FUNNEL))


def test_every_record_is_kept_or_rejected_for_a_reason(whole: Path) -> None:
    kept, rejected = list(jsonl.read(whole / KEPT)), list(jsonl.read(whole / REJECTED))
    assert all(record["score"]["total"] == 1.0 and "stage" not in record for record in kept)
    assert all(record["stage"] in ("task", "gates", "judge") and record["reason"] for record in rejected)
    tasks = {record["id"].split("#")[0] for record in (*kept, *rejected)}
    assert tasks == {f"train-{index:06d}" for index in range(SMALL.num_tasks)}
    ids = [record["id"] for record in (*kept, *rejected)]
    assert len(ids) == len(set(ids))
    assert any(record["stage"] == "judge" for record in rejected)
    funnel = json.loads((whole / FUNNEL).read_text())
    assert funnel["judge"]["kept"] == len(kept)
    assert sum(stage["rejected"] for stage in funnel.values()) == len(rejected)


def test_kept_ones_replay(whole: Path) -> None:
    for record in list(jsonl.read(whole / KEPT))[::5]:
        scenario = scenario_of(SMALL, int(record["id"].split("#")[0].rsplit("-", 1)[1]))
        assert replays(record, scenario, SMALL.faults)


def test_the_mean_task_takes_six_calls(whole: Path) -> None:
    calls = [len(record["calls"]) for record in jsonl.read(whole / KEPT)]
    assert sum(calls) / len(calls) >= 6


@pytest.mark.parametrize("executor", ["processes", pytest.param("ray", marks=pytest.mark.slow)])
def test_others_write_the_same(whole: Path, tmp_path: Path, executor: str) -> None:
    if executor == "ray":
        pytest.importorskip("ray", reason="pip install 'openk2[ray]'")
    synthesize(SMALL.model_copy(update={"executor": executor, "num_workers": 2}), tmp_path)
    assert same(whole, tmp_path)


def test_a_longer_run_goes_on_behind_a_shorter_one(whole: Path, tmp_path: Path) -> None:
    synthesize(SMALL.model_copy(update={"num_tasks": 17}), tmp_path)
    told: list[Progress] = []
    synthesize(SMALL, tmp_path, told.append)
    assert same(whole, tmp_path)
    assert told[-1].tasks == SMALL.num_tasks


def test_another_config_does_not_mix_in(whole: Path) -> None:
    with pytest.raises(ValueError, match="another config"):
        synthesize(SMALL.model_copy(update={"sloppiness": 0.5}), whole)


def test_kills_lose_nothing_and_double_nothing(whole: Path, tmp_path: Path) -> None:
    """kill -9 five times, at moments that the first run's files choose."""
    script = (
        "from openk2.worlds.scenario.synthesize import *; from pathlib import Path; import sys\n"
        "config = SynthesisConfig(name='small', num_tasks=50, trajectories_per_task=3, executor='here')\n"
        "synthesize(config, Path(sys.argv[1]))"
    )
    total = (whole / KEPT).stat().st_size
    for kill in range(1, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if (tmp_path / KEPT).exists() and (tmp_path / KEPT).stat().st_size >= total * kill / 6:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.002)
        process.wait(10)
    synthesize(SMALL, tmp_path)
    assert same(whole, tmp_path)
