"""Rotary positions, with YaRN context extension (arXiv 2104.09864, 2309.00071).

Shapes: B batch, T tokens, H heads, R rotary width, P = R/2 pairs, K ≥ R width of a query or key.
"""

from __future__ import annotations

import math
from typing import Any

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


def rotate(x_BTHK: Tensor, cos_BTP: Tensor, sin_BTP: Tensor) -> Tensor:
    """Turn each interleaved pair of the last R entries by its angle; entries before them stay.

    The turned part holds all first members, then all second ones: queries and keys are permuted
    alike, so their products are those of the interleaved form.
    """
    cos, sin = cos_BTP.unsqueeze(-2), sin_BTP.unsqueeze(-2)
    return rotate_plain(x_BTHK, cos, sin) if x_BTHK.is_cuda else _Rotate.apply(x_BTHK, cos, sin)


def rotate_plain(x_BTHK: Tensor, cos_BT1P: Tensor, sin_BT1P: Tensor) -> Tensor:
    """The turn itself, by autograd: the reference."""
    width = 2 * cos_BT1P.shape[-1]
    rest, first, second = x_BTHK[..., :-width], x_BTHK[..., -width::2], x_BTHK[..., 1 - width :: 2]
    turned = (first * cos_BT1P - second * sin_BT1P, second * cos_BT1P + first * sin_BT1P)
    return torch.cat((rest, *(half.to(x_BTHK.dtype) for half in turned)), dim=-1)


class _Rotate(torch.autograd.Function):
    """One copy, in which the last entries are overwritten; backward likewise, with the angles turned back."""

    @staticmethod
    def forward(ctx: Any, x_BTHK: Tensor, cos_BT1P: Tensor, sin_BT1P: Tensor) -> Tensor:
        ctx.save_for_backward(cos_BT1P, sin_BT1P)
        turned = x_BTHK.clone(memory_format=torch.contiguous_format)
        pairs = cos_BT1P.shape[-1]
        first, second = x_BTHK[..., -2 * pairs :: 2], x_BTHK[..., 1 - 2 * pairs :: 2]
        turned[..., -2 * pairs : -pairs] = (first * cos_BT1P).addcmul_(second, sin_BT1P, value=-1)
        turned[..., -pairs:] = (second * cos_BT1P).addcmul_(first, sin_BT1P)
        return turned

    @staticmethod
    def backward(ctx: Any, grad_BTHK: Tensor) -> tuple[Tensor, None, None]:
        cos_BT1P, sin_BT1P = ctx.saved_tensors
        turned_back = grad_BTHK.clone(memory_format=torch.contiguous_format)
        pairs = cos_BT1P.shape[-1]
        first, second = grad_BTHK[..., -2 * pairs : -pairs], grad_BTHK[..., -pairs:]
        turned_back[..., -2 * pairs :: 2] = (first * cos_BT1P).addcmul_(second, sin_BT1P)
        turned_back[..., 1 - 2 * pairs :: 2] = (second * cos_BT1P).addcmul_(first, sin_BT1P, value=-1)
        return turned_back, None, None
