"""Drawing tokens for many rows at once; a row's draw depends on nothing but its own logits, seed and position.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openk2.schema import Sampling

UInts = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

# Colder than this no float32 logit has a rival: the draw is the argmax, and logits / T would overflow.
_GREEDY_BELOW = 1e-5


def check(sampling: Sampling) -> None:
    """Raise ValueError, naming the field, where ``sampling`` asks for what cannot be drawn."""
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise ValueError(f"sampling.temperature must be 0 or more, got {sampling.temperature}")
    if not 0 < sampling.top_p <= 1:
        raise ValueError(f"sampling.top_p must lie in (0, 1], got {sampling.top_p}")
    if not 0 <= sampling.top_k < 2**63:
        raise ValueError(f"sampling.top_k must be 0 (no cut) or more, got {sampling.top_k}")
    if sampling.max_tokens < 1:
        raise ValueError(f"sampling.max_tokens must be 1 or more, got {sampling.max_tokens}")


def logprobs(logits_BV: Tensor, temperature_B: Floats) -> Tensor:
    """log-softmax(logits / T), T = 1 where it is all but 0 (greedy): what a trainer recomputes. [B, V]."""
    scaled_BV = logits_BV.float()
    scale_B = np.where(temperature_B < _GREEDY_BELOW, 1.0, temperature_B)
    if (scale_B != 1.0).any():
        scaled_BV = scaled_BV / torch.from_numpy(scale_B).to(scaled_BV).unsqueeze(1)
    return torch.log_softmax(scaled_BV, dim=-1)


def draw(
    logprobs_BV: Tensor,
    temperature_B: Floats,
    top_p_B: Floats,
    top_k_B: npt.NDArray[np.int64],
    uniforms_B: Floats,
    allowed: Mapping[int, npt.NDArray[np.bool_]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """One token a row and its log-probability, both [B].

    top-p, top-k and ``allowed`` (a row's mask over the vocabulary) cut which tokens can be drawn, not the
    log-probability, so under a cut it is smaller than that of the distribution drawn from. The cut takes what is
    allowed, of that the ``top_k`` most probable tokens, and of these the fewest that hold ``top_p`` of their probability.
    """
    candidates_BV = logprobs_BV
    if allowed:
        candidates_BV = logprobs_BV.clone()
        for row, mask in allowed.items():
            candidates_BV[row].masked_fill_(~torch.from_numpy(mask).to(logprobs_BV.device), -math.inf)
    greedy_B = temperature_B < _GREEDY_BELOW
    if greedy_B.all():
        tokens_B = _argmax(candidates_BV)
    else:
        tokens_B = _draw(candidates_BV, top_p_B, top_k_B, uniforms_B)
        if greedy_B.any():
            tokens_B = torch.where(torch.from_numpy(greedy_B).to(tokens_B.device), _argmax(candidates_BV), tokens_B)
    chosen_B = logprobs_BV.gather(1, tokens_B.unsqueeze(1)).squeeze(1)
    return tokens_B.cpu().numpy(), chosen_B.cpu().numpy()


def _argmax(candidates_BV: Tensor) -> Tensor:
    """The most probable token of each row, [B]. On a CPU NumPy finds it many times sooner than PyTorch."""
    if candidates_BV.device.type == "cpu":
        return torch.from_numpy(candidates_BV.numpy().argmax(axis=-1))
    return candidates_BV.argmax(dim=-1)


def most_probable(logprobs_V: Tensor, count: int) -> list[tuple[int, float]]:
    """The ``count`` most probable tokens, best first, with their log-probabilities."""
    best = logprobs_V.topk(min(count, len(logprobs_V)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _draw(candidates_BV: Tensor, top_p_B: Floats, top_k_B: npt.NDArray[np.int64], uniforms_B: Floats) -> Tensor:
    """A token a row by its probability, after the cuts. [B]."""
    # What grammar leaves may be all but impossible: the largest probability is brought to 1 first.
    probs_BV = (candidates_BV - candidates_BV.amax(dim=-1, keepdim=True)).exp_()
    rows = np.flatnonzero((top_p_B < 1) | (top_k_B > 0))
    if len(rows):
        index = torch.from_numpy(rows).to(probs_BV.device)
        top_p, top_k = (torch.from_numpy(cut[rows]).to(probs_BV.device) for cut in (top_p_B, top_k_B))
        probs_BV[index] = _cut(probs_BV[index], top_p, top_k)
    cumulative_BV = probs_BV.cumsum(dim=-1, dtype=torch.float64)
    # u < 1 by at least 2^-52, so u · total stays below the total: some token with probability > 0 is found.
    wanted_B1 = torch.from_numpy(uniforms_B).to(cumulative_BV).unsqueeze(1) * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, wanted_B1, right=True).squeeze(1)


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


def uniforms(seeds_B: UInts, positions_B: UInts) -> Floats:
    """A number in [0, 1 − 2^-52] for each (seed, position): SplitMix64 as a counter-based generator."""
    mixed_B = _mix(_mix(seeds_B) + positions_B * np.uint64(0x9E3779B97F4A7C15))
    return (mixed_B >> np.uint64(12)).astype(np.float64) * 2.0**-52


def _mix(x: UInts) -> UInts:
    """SplitMix64's step and finaliser; unsigned arithmetic wraps around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
