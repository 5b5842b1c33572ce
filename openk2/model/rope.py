"""Rotary positions, with YaRN context extension (arXiv 2104.09864, 2309.00071).

Shapes: B batch, T tokens, H heads, R rotary width, P = R/2 pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from openk2.model.config import ModelConfig, YarnConfig


def frequencies(config: ModelConfig) -> Tensor:
    """Angular frequency of each rotary pair, float32 [P]; interpolated where YaRN asks for it."""
    width = config.qk_rope_head_dim
    exponents_P = torch.arange(0, width, 2, dtype=torch.float32) / width
    inv_freq_P = 1.0 / config.rope_theta**exponents_P
    if config.yarn is None:
        return inv_freq_P
    extrapolated_P = _share_left_alone(config.yarn, width, config.rope_theta)
    return inv_freq_P / config.yarn.factor * (1 - extrapolated_P) + inv_freq_P * extrapolated_P


def _share_left_alone(yarn: YarnConfig, width: int, theta: float) -> Tensor:
    """1 for pairs that turn often enough to be kept, 0 for those to interpolate, a ramp between."""

    def pair_with(rotations: float) -> float:
        return width * math.log(yarn.original_max_positions / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_with(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_with(yarn.beta_slow)), width - 1)
    span = max(high - low, 0.001)
    return 1 - ((torch.arange(width // 2, dtype=torch.float32) - low) / span).clamp(0, 1)


def magnitude(factor: float, mscale: float) -> float:
    """YaRN's attention temperature: 0.1 · mscale · ln(factor) + 1."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rotation_scale(config: ModelConfig) -> float:
    """Factor on cos and sin."""
    yarn = config.yarn
    if yarn is None:
        return 1.0
    return magnitude(yarn.factor, yarn.mscale) / magnitude(yarn.factor, yarn.mscale_all_dim)


def softmax_scale(config: ModelConfig) -> float:
    """1/sqrt(qk width), times mscale² under YaRN."""
    scale = config.qk_head_dim**-0.5
    if config.yarn is not None and config.yarn.mscale_all_dim:
        scale *= magnitude(config.yarn.factor, config.yarn.mscale_all_dim) ** 2
    return scale


def rotate(x_BTHR: Tensor, cos_BTP: Tensor, sin_BTP: Tensor) -> Tensor:
    """Turn each interleaved pair (2p, 2p+1) by its angle.

    The result holds all first members, then all second ones: queries and keys are permuted alike,
    so their products are those of the interleaved form.
    """
    even, odd = x_BTHR[..., 0::2], x_BTHR[..., 1::2]
    cos, sin = cos_BTP.unsqueeze(-2), sin_BTP.unsqueeze(-2)
    return torch.cat((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
