"""Drawing tokens for many rows at once; a row's draw depends on nothing but its own logits, seed and position.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openk2.schema import Sampling

UInts = npt.NDArray[np.uint64]


def check(sampling: Sampling) -> None:
    """Raise ValueError, naming the field, where ``sampling`` asks for what cannot be drawn."""
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise ValueError(f"sampling.temperature must be 0 or more, got {sampling.temperature}")
    if not 0 < sampling.top_p <= 1:
        raise ValueError(f"sampling.top_p must lie in (0, 1], got {sampling.top_p}")
    if sampling.top_k < 0:
        raise ValueError(f"sampling.top_k must be 0 (no cut) or more, got {sampling.top_k}")
    if sampling.max_tokens < 1:
        raise ValueError(f"sampling.max_tokens must be 1 or more, got {sampling.max_tokens}")
    if sampling.stop:
        raise ValueError(f"sampling.stop: the engine stops at stop ids only, got the texts {sampling.stop}")


def draw(
    logits_BV: Tensor, temperature_B: Tensor, top_p_B: Tensor, top_k_B: Tensor, uniforms_B: Tensor
) -> tuple[Tensor, Tensor]:
    """One token a row and its log-probability, both [B].

    The log-probability is that under log-softmax(logits / T) over the whole vocabulary (T = 1 where the
    temperature is 0, greedy): what a trainer recomputes. top-p and top-k cut which tokens can be drawn,
    not the log-probability, so under a cut it is smaller than that of the distribution drawn from.
    The cut takes the ``top_k`` most probable tokens, and of these the fewest that hold ``top_p`` of
    their probability.
    """
    greedy_B = temperature_B == 0
    scale_B = temperature_B.masked_fill(greedy_B, 1.0).to(torch.float32)
    logprobs_BV = torch.log_softmax(logits_BV.float() / scale_B.unsqueeze(1), dim=-1)
    probs_BV = logprobs_BV.exp()
    cut_B = (top_p_B < 1) | (top_k_B > 0)
    if cut_B.any():
        rows = cut_B.nonzero().squeeze(1)
        probs_BV[rows] = _cut(probs_BV[rows], top_p_B[rows], top_k_B[rows])
    cumulative_BV = probs_BV.cumsum(dim=-1, dtype=torch.float64)
    # u < 1 by at least 2^-52, so u · total stays below the total: some token with probability > 0 is found.
    wanted_B1 = uniforms_B.unsqueeze(1) * cumulative_BV[:, -1:]
    tokens_B = torch.searchsorted(cumulative_BV, wanted_B1, right=True).squeeze(1)
    if greedy_B.any():
        tokens_B = torch.where(greedy_B, logits_BV.argmax(dim=-1), tokens_B)
    return tokens_B, logprobs_BV.gather(1, tokens_B.unsqueeze(1)).squeeze(1)


def _cut(probs_BV: Tensor, top_p_B: Tensor, top_k_B: Tensor) -> Tensor:
    """Zero what top-k, then top-p leave out; the most probable token always stays."""
    sorted_BV, order_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
    ranks_V = torch.arange(probs_BV.shape[1], device=probs_BV.device)
    beyond_BV = (ranks_V >= top_k_B.unsqueeze(1)) & (top_k_B > 0).unsqueeze(1)
    sorted_BV = sorted_BV.masked_fill(beyond_BV, 0.0)
    upto_BV = sorted_BV.cumsum(dim=-1, dtype=torch.float64)
    before_BV = upto_BV - sorted_BV
    beyond_BV = (before_BV >= top_p_B.unsqueeze(1) * upto_BV[:, -1:]) & (top_p_B < 1).unsqueeze(1) & (ranks_V > 0)
    return torch.zeros_like(probs_BV).scatter(1, order_BV, sorted_BV.masked_fill(beyond_BV, 0.0))


def uniforms(seeds_B: UInts, positions_B: UInts) -> npt.NDArray[np.float64]:
    """A number in [0, 1 − 2^-52] for each (seed, position): SplitMix64 as a counter-based generator."""
    mixed_B = _mix(_mix(seeds_B) + positions_B * np.uint64(0x9E3779B97F4A7C15))
    return (mixed_B >> np.uint64(12)).astype(np.float64) * 2.0**-52


def _mix(x: UInts) -> UInts:
    """SplitMix64's step and finaliser; unsigned arithmetic wraps around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
