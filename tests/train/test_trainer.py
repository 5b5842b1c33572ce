"""A stage that is interrupted anywhere goes on as if it had not been."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from openk2.train.checkpoint import checkpoints, load_model, read_state
from openk2.train.metrics import MetricsLog, read_metrics
from openk2.train.step import Compute, NonFiniteLossError
from openk2.train.supervised import fit
from tests.train.conftest import CountingRows, stage_config, tiny_model

CPU = Compute(torch.device("cpu"))
EXACT = ("loss", "grad_norm", "lr", "max_logit", "expert_load", "tokens")


def run(folder: Path, steps: int = 12) -> None:
    """The stage the tests interrupt: also run as a program of its own."""
    torch.set_num_threads(1)
    fit("pretrain", folder, tiny_model(), CountingRows(), stage_config(steps=steps), CPU, say=lambda _: None)


def exact(folder: Path) -> list[tuple[float, ...]]:
    return [tuple(row[key] for key in EXACT) for row in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, ...]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return exact(folder)


def test_an_exception_and_a_rerun_change_nothing(tmp_path: Path, undisturbed: list[tuple[float, ...]]) -> None:
    class Interrupting(CountingRows):
        def __iter__(self):
            for number, rows in enumerate(super().__iter__()):
                if number == 8:
                    raise KeyboardInterrupt
                yield rows

    torch.set_num_threads(1)
    with pytest.raises(KeyboardInterrupt):
        fit("pretrain", tmp_path, tiny_model(), Interrupting(), stage_config(), CPU)
    said: list[str] = []
    fit("pretrain", tmp_path, tiny_model(seed=9), CountingRows(), stage_config(), CPU, say=said.append)
    assert said == [f"pretrain: resuming after step 6 of 12 ({tmp_path}/checkpoints/step-000006)"]
    assert exact(tmp_path) == undisturbed


def test_ctrl_c_ends_the_step_and_saves_it(tmp_path: Path, undisturbed: list[tuple[float, ...]]) -> None:
    torch.set_num_threads(1)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Pressing(CountingRows):
        def __iter__(self):
            for number, rows in enumerate(super().__iter__()):
                if number == 4:  # in the middle of step 5, which no regular checkpoint follows
                    os.kill(os.getpid(), signal.SIGINT)
                yield rows

    said: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            fit("pretrain", tmp_path, tiny_model(), Pressing(), stage_config(), CPU, say=said.append)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == ["pretrain: ending this step; Ctrl-C again stops at once"]
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-000005"
    fit("pretrain", tmp_path, tiny_model(seed=9), CountingRows(), stage_config(), CPU, say=said.append)
    assert said[1] == f"pretrain: resuming after step 5 of 12 ({tmp_path}/checkpoints/step-000005)"
    assert exact(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_sigkill_at_random_moments_changes_nothing(tmp_path: Path, undisturbed: list[tuple[float, ...]]) -> None:
    program = [sys.executable, "-c", f"from tests.train.test_trainer import *; run(Path({str(tmp_path)!r}))"]
    rng = random.Random(0)
    kills = 0
    for _ in range(40):
        process = subprocess.Popen(program, env={**os.environ, "PYTHONPATH": os.getcwd()})
        lines = len(read_metrics(tmp_path / "metrics.jsonl")) + rng.randrange(3)
        deadline = time.monotonic() + 60
        while process.poll() is None and len(read_metrics(tmp_path / "metrics.jsonl")) <= lines:
            assert time.monotonic() < deadline, "the stage made no step in 60 s"
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.05))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
    assert kills >= 2, "the stage ended before it could be killed"
    assert exact(tmp_path) == undisturbed


def test_nan_names_step_batch_and_last_good_checkpoint(tmp_path: Path) -> None:
    model = tiny_model()

    class Poisoning(CountingRows):
        def __iter__(self):
            for number, rows in enumerate(super().__iter__()):
                if number == 4:
                    with torch.no_grad():
                        model.lm_head.weight.fill_(float("inf"))
                yield rows

    with pytest.raises(
        NonFiniteLossError, match=r"at step 5; last good checkpoint: .*step-000003; batch: rows of step 5"
    ):
        fit("pretrain", tmp_path, model, Poisoning(), stage_config(), CPU)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-000003"]


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    run(tmp_path)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-000009", "step-000012"]
    assert read_state(checkpoints(tmp_path / "checkpoints")[-1])["machine"]["threads"] == 1


def test_a_full_disk_leaves_the_earlier_state(tmp_path: Path) -> None:
    run(tmp_path, steps=3)
    before = checkpoints(tmp_path / "checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # writes fail as on a full disk
    try:
        with pytest.raises(OSError, match=r"too large|No space"):
            run(tmp_path, steps=6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints(tmp_path / "checkpoints") == before
    assert not list((tmp_path / "checkpoints").glob(".unfinished*"))
    run(tmp_path, steps=6)
    assert read_state(checkpoints(tmp_path / "checkpoints")[-1])["step"] == 6


def test_a_cut_or_foreign_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    run(tmp_path, steps=3)
    checkpoint = checkpoints(tmp_path / "checkpoints")[-1]
    [file] = (checkpoint / "model").glob("*.safetensors")
    whole = file.read_bytes()
    for cut in (whole[: len(whole) // 2], whole[:4], b""):
        file.write_bytes(cut)
        with pytest.raises(ValueError, match="model"):
            load_model(checkpoint, tiny_model())
    file.write_bytes(whole)
    load_model(checkpoint, tiny_model())
    other = tiny_model()
    other.layers["7"] = other.layers.pop("1")
    with pytest.raises(ValueError, match=r"lacks \d+ tensors of this model, first layers.7"):
        load_model(checkpoint, other)


def test_a_torn_last_metrics_line_is_dropped(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, from_step=0)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1.0})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    MetricsLog(tmp_path, from_step=2).close()
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
