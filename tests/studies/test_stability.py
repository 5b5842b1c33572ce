"""The stability study, with few steps; what it finds at full length stands in results/."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openk2 import cli
from openk2.studies import stability
from openk2.studies.stability import ARMS, ONE_GPU, Arm, end_of, run, spikes, study, warmup_stable_decay
from openk2.studies.stability_report import write_report

ROOT = Path(__file__).parents[2]
PROVENANCE = {"commit": "abc", "machine": "here", "torch": "2", "date": "today", "python": "3"}


def arm(name: str) -> Arm:
    return next(arm for arm in ARMS if arm.name == name)


@pytest.mark.parametrize("name", ["MuonClip", "AdamW + QK-Clip", "MuonClip, whole layers clipped", "dense MHA, Muon"])
def test_a_run_repeats_to_the_bit_and_tells_of_every_step(name: str) -> None:
    first, second = (run(arm(name), seed=1, num_steps=4) for _ in range(2))
    assert first == second
    assert len(first["loss"]) == len(first["max_logit"]) == len(first["clipped"]) == 4
    assert first["loss"][0] == pytest.approx(math.log(256), rel=0.1)
    assert run(arm(name), seed=2, num_steps=1)["loss"] != first["loss"][:1]


def test_a_run_may_be_of_another_scale() -> None:
    """On the CPU, with the shape that a GPU gets cut down."""
    model = ONE_GPU.mla_moe.model_copy(update={"num_layers": 2, "hidden_size": 64, "num_experts": 4})
    told = run(
        arm("MuonClip"), seed=0, num_steps=2, scale=replace(ONE_GPU, rows=2, length=40, mla_moe=model, device="cpu")
    )
    assert told["loss"][0] == pytest.approx(math.log(256), rel=0.1)
    assert told["loss"] != run(arm("MuonClip"), seed=0, num_steps=2)["loss"]


def test_arms_of_a_seed_begin_alike_and_part_where_they_differ() -> None:
    clipped, free = (run(replace(arm("MuonClip"), tau=tau), seed=0, num_steps=3) for tau in (1e-3, math.inf))
    assert clipped["loss"][0] == free["loss"][0]
    assert clipped["loss"][2] != free["loss"][2]
    assert clipped["clipped"][0] > 0
    assert free["clipped"] == [0.0, 0.0, 0.0]


def test_a_spike_leaves_the_way_and_counts_once() -> None:
    calm = [3 - 0.001 * step for step in range(100)]
    assert spikes(calm) == 0
    assert spikes([*calm[:50], 4.0, 4.2, *calm[52:80], 3.5, *calm[81:]]) == 2
    assert spikes([*calm[:50], math.nan, *calm[51:]]) == 1


def test_the_schedule_warms_up_stays_and_decays() -> None:
    factors = [warmup_stable_decay(step, 300) for step in range(300)]
    assert factors[0] == 1 / 20
    assert factors[19] == factors[210] == 1.0
    assert factors[299] == pytest.approx(0.1, abs=0.02)


def test_a_study_goes_on_where_it_stopped_and_leaves_a_report(tmp_path: Path) -> None:
    few = [arm("MuonClip"), arm("Muon"), arm("AdamW")]
    said: list[str] = []
    results = study(tmp_path, num_steps=3, num_seeds=2, arms=few, say=said.append)
    assert len(results) == 6
    (tmp_path / "Muon-seed-1.json").unlink()
    said.clear()
    assert study(tmp_path, num_steps=3, num_seeds=2, arms=few, say=said.append) == results
    assert said[0].startswith("5 of 6 runs are there already")
    assert len(said) == 2
    text = write_report(results, tmp_path, PROVENANCE)
    row = next(line for line in text.splitlines() if line.startswith("| Muon |"))
    assert f"| {(end_of(results[1]['loss']) + end_of(results[4]['loss'])) / 2:.3f} |" in row
    stored = json.loads((tmp_path / "study-stability.json").read_text())
    assert [row["arm"] for row in stored["arms"]] == [a.name for a in few]
    assert (tmp_path / "study-stability.png").read_bytes()[:4] == b"\x89PNG"


def test_every_model_is_compared_with_its_own_muonclip_and_drawn(tmp_path: Path) -> None:
    names = ["MuonClip", "AdamW", "GQA, MuonClip", "GQA, keys left alone", "GQA, keys for the worst head"]
    results = [run(arm(name), seed, num_steps=2) for seed in range(2) for name in names]
    text = write_report(results, tmp_path, PROVENANCE)
    stored = {row["arm"]: row for row in json.loads((tmp_path / "study-stability.json").read_text())["arms"]}
    alone, ours = stored["GQA, keys left alone"], stored["GQA, MuonClip"]
    assert alone["reference"] == ours["reference"] == "GQA, MuonClip"
    assert alone["loss_over_reference"] == pytest.approx(alone["loss"] - ours["loss"])
    assert "| GQA, keys for the worst head |" in text
    with_gqa = (tmp_path / "study-stability.png").read_bytes()
    write_report([r for r in results if not r["arm"]["name"].startswith("GQA")], tmp_path, PROVENANCE)
    alone_png = (tmp_path / "study-stability.png").read_bytes()
    height = lambda png: int.from_bytes(png[20:24], "big")  # noqa: E731
    assert height(with_gqa) == 2 * height(alone_png)


def kept(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A run's file with something changed in it."""
    file = folder / "MuonClip-seed-0.json"
    file.write_text(json.dumps(change(run(arm("MuonClip"), seed=0, num_steps=2))))
    return file


def test_a_result_from_before_an_arm_could_say_more_is_kept(tmp_path: Path) -> None:
    kept(tmp_path, lambda result: result | {"arm": {k: v for k, v in result["arm"].items() if k != "key_for_worst"}})
    said: list[str] = []
    study(tmp_path, num_steps=2, num_seeds=1, arms=[arm("MuonClip")], say=said.append)
    assert said == [f"1 of 1 runs are there already ({tmp_path})"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: ["not", "a", "result"], "all of it: Input should be a valid dictionary"),
        (lambda _: {}, "arm: Field required"),
        (lambda result: result | {"loss": ["low", "lower"]}, "loss.0: Input should be a valid number"),
        (lambda result: result | {"loss": [1.0]}, "its curves have not 2 steps each"),
    ],
)
def test_json_that_is_no_result_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Any], Any], said: str
) -> None:
    file = kept(tmp_path, change)
    assert cli.main(["study", "stability", "--steps", "2", "--seeds", "2", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"openk2: {file} is no result of this study (")
    assert said in error
    assert error.endswith("; remove it to have that run done again\n")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """As a terminal sends it: to every process of the group."""
    command = [sys.executable, "-m", "openk2.cli", "study", "stability", "--steps", "3", "--seeds", "3"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)  # returns when the last child has closed its end
    assert first.startswith("[1/51] ")
    assert process.returncode == 130
    assert error == "\nopenk2: interrupted; the same command again goes on from there\n"
    finished = list(tmp_path.iterdir())
    assert 1 <= len(finished) < 51
    assert all(len(json.loads(file.read_text())["loss"]) == 3 for file in finished)


def test_the_text_is_real_and_ample() -> None:
    text = stability.corpus()
    assert len(text) > 1_000_000
    assert b"def __init__" in bytes(text[:200_000].tolist())
