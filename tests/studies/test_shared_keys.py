"""Rules for keys that query heads share, on the study's own GQA model and real logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

pytest.importorskip("transformers")

from openk2.optim.hf_attention import observe
from openk2.optim.qk_clip import ClippableAttention, ClipReport, clip_, clippable
from openk2.studies.shared_keys import clip_for_worst_
from openk2.studies.stability import ARMS, LENGTH, ROWS, Arm, model_for, run

TAU = 3.0
GQA = [arm for arm in ARMS if arm.kind == "gqa" and math.isfinite(arm.tau)]


def first_layer(top: list[float]) -> tuple[ClippableAttention, Callable[[], torch.Tensor]]:
    """A GQA model whose first layer's largest logits are ``top``, by scaled queries, and how to see them again."""
    torch.manual_seed(0)
    model, logits_of = model_for("gqa", seed=0)
    observe(model)
    tokens_BT = torch.randint(256, (ROWS, LENGTH))
    attention = clippable(model)[0]

    def maxima() -> torch.Tensor:
        attention.max_logits_H.fill_(-math.inf)
        with torch.no_grad():
            logits_of(tokens_BT)
        return attention.max_logits_H.clone()

    factor_H = torch.tensor(top) / maxima()
    attention.qk_views()["q"].mul_(factor_H[:, None, None])
    return attention, maxima


TOP = [1.0, 2.0, 6.0, 12.0, 4.0, 6.0, 30.0, 9.0]  # the first group has heads that need no clip, the second has none


def clip(arm: Arm, attention: ClippableAttention) -> ClipReport:
    """As a run of the arm does."""
    seen = clip_([attention], math.inf if arm.key_for_worst else TAU, **arm.clip)
    return clip_for_worst_([attention], seen, TAU) if arm.key_for_worst else seen


def clipped_by(arm: Arm) -> tuple[torch.Tensor, torch.Tensor]:
    """What the maxima of each head became, and what the report says they were scaled by: one clip, no update."""
    attention, maxima = first_layer(TOP)
    assert maxima().tolist() == pytest.approx(TOP, rel=1e-4)
    seen = clip(arm, attention)
    assert seen.max_logits_S.tolist() == pytest.approx(TOP, rel=1e-4)
    return maxima(), seen.gamma_S


@pytest.mark.parametrize("arm", GQA, ids=lambda arm: arm.name)
def test_every_rule_keeps_its_promise_at_rest(arm: Arm) -> None:
    after_H, gamma_H = clipped_by(arm)
    assert after_H.max() <= TAU * (1 + 1e-5)
    torch.testing.assert_close(after_H, torch.tensor(TOP) * gamma_H, rtol=1e-4, atol=0.0)


def test_only_the_rule_for_the_worst_head_clips_more_than_it_must() -> None:
    exact, alone, worst = (clipped_by(arm)[0].tolist() for arm in GQA)
    wanted = [min(TAU, top) for top in TOP]
    assert exact == pytest.approx(wanted, rel=1e-4)
    assert alone == pytest.approx(wanted, rel=1e-4)
    smallest = [TAU / 12] * 4 + [TAU / 30] * 4
    own = [min(1.0, TAU / top) for top in TOP]
    expected = [top * math.sqrt(g * s) for top, g, s in zip(TOP, own, smallest, strict=True)]
    assert worst == pytest.approx(expected, rel=1e-4)
    assert worst[0] < 0.6  # needed no clip


def test_who_moves_the_key() -> None:
    moved = {}
    for arm in GQA:
        attention, maxima = first_layer(TOP)
        maxima()
        before = attention.qk_views()["k"].clone()
        clip(arm, attention)
        moved[arm.name] = (attention.qk_views()["k"] / before).mean((1, 2)).tolist()
    assert moved["GQA, MuonClip"] == pytest.approx([1.0, math.sqrt(TAU / 4)], rel=1e-4)
    assert moved["GQA, keys left alone"] == [1.0, 1.0]
    assert moved["GQA, keys for the worst head"] == pytest.approx([math.sqrt(TAU / 12), math.sqrt(TAU / 30)], rel=1e-4)


def test_a_maximum_that_says_nothing_clips_nothing() -> None:
    attention, _ = first_layer(TOP)
    before = {name: view.clone() for name, view in attention.qk_views().items()}
    attention.max_logits_H.copy_(torch.tensor([math.nan, math.inf, -math.inf, -5.0, 0.0, 1.0, 2.0, TAU]))
    report = clip_for_worst_([attention], clip_([attention], math.inf), TAU)
    assert report.clipped_heads == 0
    assert all(torch.equal(view, before[name]) for name, view in attention.qk_views().items())


@pytest.mark.parametrize("arm", GQA, ids=lambda arm: arm.name)
def test_a_run_clips_by_its_rule(arm: Arm) -> None:
    """At the first step all begin alike; a tiny τ makes them clip at once, the rules part at the next."""
    ours, tiny = (run(replace(a, tau=1e-3), seed=0, num_steps=3) for a in (GQA[0], arm))
    assert tiny["loss"][0] == ours["loss"][0]
    assert tiny["clipped"][0] > 0.9
    assert (tiny["loss"] == ours["loss"]) == (arm is GQA[0])
