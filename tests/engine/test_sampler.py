from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine import sampler
from openk2.schema import Sampling

NUM = 20_000


def draw(
    logits_BV: torch.Tensor,
    uniforms: Sequence[float] | np.ndarray,
    *,
    temperature: float | Sequence[float] = 1.0,
    top_p: float | Sequence[float] = 1.0,
    top_k: int = 0,
    allowed: Mapping[int, np.ndarray] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``sampler.draw`` with the same setting for every row, unless one is given for each."""
    rows = len(logits_BV)
    temperature_B = np.broadcast_to(np.asarray(temperature, dtype=np.float64), rows)
    tokens, logprobs = sampler.draw(
        sampler.logprobs(logits_BV, temperature_B),
        temperature_B,
        np.broadcast_to(np.asarray(top_p, dtype=np.float64), rows),
        np.full(rows, top_k),
        np.asarray(uniforms, dtype=np.float64),
        allowed or {},
    )
    return torch.from_numpy(tokens), torch.from_numpy(logprobs)


def drawn(logits: list[float], **cuts: Any) -> torch.Tensor:
    """Shares of each token over many draws."""
    uniforms = sampler.uniforms(np.full(NUM, 7, dtype=np.uint64), np.arange(NUM, dtype=np.uint64))
    tokens, _ = draw(torch.tensor(logits).expand(NUM, -1), uniforms, **cuts)
    return torch.bincount(tokens, minlength=len(logits)) / NUM


def test_draws_follow_the_softmax() -> None:
    logits = [0.0, 1.0, -1.0, 2.0, -30.0]
    for temperature in (0.5, 1.0, 2.0):
        expected = (torch.tensor(logits) / temperature).softmax(-1)
        torch.testing.assert_close(drawn(logits, temperature=temperature), expected, atol=0.015, rtol=0)


def test_cuts() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().tolist()
    assert drawn(logits, top_k=2).nonzero().flatten().tolist() == [1, 3]
    torch.testing.assert_close(drawn(logits, top_k=2)[1], torch.tensor(4 / 7), atol=0.015, rtol=0)
    assert drawn(logits, top_p=0.65).nonzero().flatten().tolist() == [1, 3]
    assert drawn(logits, top_p=0.75).nonzero().flatten().tolist() == [1, 2, 3]
    assert drawn(logits, top_p=1e-9).tolist() == [0, 1, 0, 0]
    # top-p holds for what top-k left: 0.4 of 0.9 is less than half.
    assert drawn(logits, top_k=3, top_p=0.4).nonzero().flatten().tolist() == [1]


def test_a_cut_in_one_row_leaves_the_others_alone_and_keeps_the_full_logprob() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    tokens, _ = draw(logits, [0.3, 0.9, 0.99])
    cut_tokens, logprobs = draw(logits, [0.3, 0.9, 0.99], top_p=[1.0, 0.1, 1.0])
    assert cut_tokens[[0, 2]].tolist() == tokens[[0, 2]].tolist()
    expected = logits.log_softmax(-1).gather(1, cut_tokens[:, None]).squeeze(1)
    torch.testing.assert_close(logprobs, expected)


def test_only_what_is_allowed_is_drawn_however_improbable() -> None:
    logits = torch.tensor([[0.0, -200.0, -201.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    mask = np.array([False, True, True, False])
    for temperature in (0.0, 1.0):
        tokens = torch.stack(
            [draw(logits, [u, 0.0], temperature=temperature, allowed={0: mask})[0] for u in np.linspace(0, 0.999, 50)]
        )
        assert set(tokens[:, 0].tolist()) == ({1, 2} if temperature else {1})
        assert set(tokens[:, 1].tolist()) == ({0} if temperature else {3})
    _, logprobs = draw(logits, [0.0, 0.0], allowed={0: mask})
    torch.testing.assert_close(logprobs[0], logits[0].log_softmax(-1)[1])


def test_greedy_gives_the_argmax_and_its_plain_logprob() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    tokens, logprobs = draw(logits, [0.999] * 4, temperature=[0.0, 1.0, 1e-208, 0.5])
    assert tokens[[0, 2]].tolist() == logits.argmax(-1)[[0, 2]].tolist()
    torch.testing.assert_close(logprobs[0], logits[0].log_softmax(-1).max())


def test_the_most_probable_come_best_first() -> None:
    logprobs = torch.randn(50, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    best = sampler.most_probable(logprobs, 3)
    assert best == sorted(best, key=lambda pair: -pair[1])
    assert {token_id for token_id, _ in best} == set(logprobs.topk(3).indices.tolist())
    assert len(sampler.most_probable(logprobs, 99)) == 50


@settings(max_examples=50)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    st.floats(0, 1 - 2**-52),
    st.floats(0.01, 1.0),
    st.integers(0, 50),
)
def test_only_possible_tokens_are_drawn(logits: list[float], uniform: float, top_p: float, top_k: int) -> None:
    row = torch.tensor([logits], dtype=torch.float32)
    for u in (uniform, 0.0, 1 - 2**-52):
        tokens, logprobs = draw(row, [u], top_p=top_p, top_k=top_k)
        assert torch.isfinite(logprobs).all()
        assert row.softmax(-1)[0, tokens[0]] > 0


def test_uniforms_are_spread_and_unrelated() -> None:
    seeds, positions = np.meshgrid(np.arange(200, dtype=np.uint64), np.arange(200, dtype=np.uint64))
    u = sampler.uniforms(seeds, positions)
    assert 0 <= u.min() < u.max() < 1
    counts, _ = np.histogram(u, bins=20, range=(0, 1))
    assert np.abs(counts - 2000).max() < 250
    for shifted in (u[1:, 1:], u[1:, :-1]):
        assert abs(np.corrcoef(u[:-1, :-1].ravel(), shifted.ravel())[0, 1]) < 0.03
    assert len(np.unique(u)) == u.size


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("max_tokens", 0),
    ],
)
def test_impossible_sampling_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"sampling\.{field}"):
        sampler.check(replace(Sampling(), **{field: value}))
