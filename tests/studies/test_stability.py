"""The stability study, with few steps; what it finds at full length stands in results/."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openk2.studies import stability
from openk2.studies.stability import ARMS, Arm, end_of, run, spikes, study, warmup_stable_decay
from openk2.studies.stability_report import write_report


def arm(name: str) -> Arm:
    return next(arm for arm in ARMS if arm.name == name)


@pytest.fixture(autouse=True)
def _threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["MuonClip", "AdamW + QK-Clip", "MuonClip, whole layers clipped", "dense MHA, Muon"])
def test_a_run_repeats_to_the_bit_and_tells_of_every_step(name: str) -> None:
    first, second = (run(arm(name), seed=1, num_steps=4) for _ in range(2))
    assert first == second
    assert len(first["loss"]) == len(first["max_logit"]) == len(first["clipped"]) == 4
    assert first["loss"][0] == pytest.approx(math.log(256), rel=0.1)
    assert run(arm(name), seed=2, num_steps=1)["loss"] != first["loss"][:1]


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
    few = [arm("MuonClip"), arm("Muon"), arm("AdamW"), arm("AdamW + QK-Clip")]
    said: list[str] = []
    results = study(tmp_path, num_steps=3, num_seeds=2, arms=few, say=said.append)
    assert len(results) == 8
    (tmp_path / "Muon-seed-1.json").unlink()
    said.clear()
    assert study(tmp_path, num_steps=3, num_seeds=2, arms=few, say=said.append) == results
    assert said[0].startswith("7 of 8 runs are there already")
    assert len(said) == 2
    text = write_report(
        results, tmp_path, {"commit": "abc", "machine": "here", "torch": "2", "date": "today", "python": "3"}
    )
    row = next(line for line in text.splitlines() if line.startswith("| Muon |"))
    assert f"| {(end_of(results[1]['loss']) + end_of(results[5]['loss'])) / 2:.3f} |" in row
    stored = json.loads((tmp_path / "study-stability.json").read_text())
    assert [row["arm"] for row in stored["arms"]] == [a.name for a in few]
    assert (tmp_path / "study-stability.png").read_bytes()[:4] == b"\x89PNG"


def test_the_text_is_real_and_ample() -> None:
    text = stability.corpus()
    assert len(text) > 1_000_000
    assert b"def __init__" in bytes(text[:200_000].tolist())
