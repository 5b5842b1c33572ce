"""One model on several ranks: the same numbers as on one, and clear ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from openk2.train.metrics import read_metrics
from openk2.train.ranks import see_one_device
from tests.train.rank_process import dump

PATIENCE = 60.0


def start(size: int, case: str, folder: Path, limit_s: float = 30.0) -> list[subprocess.Popen[str]]:
    """The ranks of a job, as torchrun would start them; one rank is no job."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.train.rank_process", case, str(folder), str(limit_s)]
    if size == 1:
        return [subprocess.Popen(command, stderr=subprocess.PIPE, text=True)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    job = os.environ | {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=job | {"RANK": str(rank)})
        for rank in range(size)
    ]


def ends(ranks: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and last words of each."""
    try:
        deadline = time.monotonic() + PATIENCE
        return [(rank.wait(max(0.1, deadline - time.monotonic())), rank.stderr.read()) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()


def told(size: int, case: str, folder: Path) -> Any:
    """What rank 0 tells."""
    ended = ends(start(size, case, folder))
    assert [code for code, _ in ended] == [0] * size, ended
    return json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dumped")
    dump(folder)
    return folder


@pytest.fixture(scope="module")
def alone(dumped: Path) -> list[dict[str, float]]:
    return told(1, "steps", dumped)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_find_what_one_process_finds(
    dumped: Path, alone: list[dict[str, float]], tmp_path: Path, size: int
) -> None:
    shutil.copytree(dumped, tmp_path, dirs_exist_ok=True)
    found = told(size, "steps", tmp_path)
    assert alone[0]["micro_batches"] > 2 * size, "every rank has several"
    assert len({row["loss"] for row in alone}) == len(alone) == 3
    for step, expected in zip(found, alone, strict=True):
        for name in expected:
            assert step[name] == pytest.approx(expected[name], abs=1e-5, rel=1e-5), name


@pytest.mark.slow
def test_the_same_ranks_repeat_themselves_to_the_bit(dumped: Path, tmp_path: Path) -> None:
    for name in ("once", "again"):
        shutil.copytree(dumped, tmp_path / name)
    assert told(3, "steps", tmp_path / "once") == told(3, "steps", tmp_path / "again")


@pytest.mark.slow
def test_work_is_shared_out_and_failures_leave_nothing_behind(tmp_path: Path) -> None:
    found = told(2, "sharing", tmp_path)
    for count, results in zip((0, 1, 2, 7), found["told"], strict=True):
        assert [item for item, _, _ in results] == list(range(count))
        assert len({process for _, process, _ in results}) == min(count, 2)
        assert len({total for _, _, total in results}) <= 1, "all have the weights as they are now"
    assert found["failed"] == [True] * 4
    assert found["whole"] == [pytest.approx(10.0), 10.0, 10.0, True]
    for results in (found["double"], found["other"]):
        assert len({process for _, process, _ in results}) == 2
        assert len({total for _, _, total in results}) == 1
    assert found["double"][0][2] != found["other"][0][2]


@pytest.mark.slow
def test_a_stage_plays_and_trains_on_all_ranks(tmp_path: Path) -> None:
    told(2, "stage", tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    spans = [json.loads(line)["spans"] for line in (tmp_path / "timeline.jsonl").read_text().splitlines()]
    for step in spans:
        for what in ("rollout", "train"):
            assert {span["worker"] for span in step if span["what"] == what} == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 2])
def test_the_death_of_a_rank_ends_all_with_one_line(tmp_path: Path, dies: int) -> None:
    ranks = start(3, "waiting", tmp_path, limit_s=300.0)
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / f"at-{dies}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    ranks[dies].kill()
    ended = ends(ranks)
    assert ended[dies][0] == -signal.SIGKILL
    for rank, (code, said) in enumerate(ended):
        if rank != dies:
            assert code == 3, said
            assert len(said.splitlines()) == 1
            assert "is gone" in said
    if dies:
        assert f"rank {dies} is gone" in ended[0][1]


@pytest.mark.slow
def test_a_rank_that_stops_is_given_up(tmp_path: Path) -> None:
    ranks = start(2, "stuck", tmp_path, limit_s=3.0)
    try:
        assert ranks[0].wait(PATIENCE) == 3
        assert "rank 1 is gone, or was silent for 3 s, while rank 0 waited for rank 1" in ranks[0].stderr.read()
    finally:
        for rank in ranks:
            rank.kill()


@pytest.mark.slow
def test_a_rank_that_does_not_come_is_named(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from openk2.train import ranks; ranks.START_S = 2.0\n"
        "from tests.train.rank_process import main; sys.exit(main('sharing', Path(sys.argv[1]), 5.0))"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    job = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, env=os.environ | job, timeout=PATIENCE, capture_output=True, text=True, check=False)
    assert "not all of 2 ranks came within 2 s" in ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_torchrun_starts_a_stage_on_ranks(tmp_path: Path) -> None:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "openk2.cli"]
    small = "--pretrain.steps 2 --worlds.num-train 20 --worlds.num-documents 20 --threads 1"
    verb = ["pretrain", "recipes/nano.toml", *small.split(), "--data.sources.0.max-tokens", "20000"]
    command = [sys.executable, "-m", *torchrun, *verb, "--run", str(tmp_path / "run")]
    ended = subprocess.run(command, timeout=280, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("pretrain: starting") == 1, "rank 0 alone speaks"
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "pretrain" / "metrics.jsonl")] == [1, 2]


@pytest.mark.parametrize(("visible", "sees"), [(None, "2"), ("", ""), ("4,5,6", "6")])
def test_a_rank_sees_one_device(monkeypatch: pytest.MonkeyPatch, visible: str | None, sees: str) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    see_one_device(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == sees


def test_more_ranks_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES=4,5 has no device for local rank 2"):
        see_one_device(2)
