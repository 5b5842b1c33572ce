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


def turns(config: ModelConfig, positions_BT: Tensor, inv_freq_P: Tensor) -> Tensor:
    """Each pair's rotation at each position, as a complex number e^(i·angle) (scaled by YaRN), [B, T, P]."""
    # At least float32, whatever precision the model was cast to.
    inv_freq_P = inv_freq_P.to(torch.promote_types(inv_freq_P.dtype, torch.float32))
    angles_BTP = positions_BT.unsqueeze(-1) * inv_freq_P
    return torch.polar(torch.full_like(angles_BTP, rotation_scale(config)), angles_BTP)


def rotate(x_BTHK: Tensor, turns_BTP: Tensor) -> Tensor:
    """Turn each interleaved pair (2p, 2p+1) of the last R entries; entries before them stay."""
    if not torch.is_grad_enabled():
        return _turn(x_BTHK, turns_BTP.unsqueeze(-2))
    return _Rotate.apply(x_BTHK, turns_BTP.unsqueeze(-2))  # type: ignore[no-untyped-call]


def rotate_plain(x_BTHK: Tensor, turns_BTP: Tensor) -> Tensor:
    """The same in real numbers, by autograd: the reference."""
    width = 2 * turns_BTP.shape[-1]
    cos, sin = turns_BTP.real.unsqueeze(-2), turns_BTP.imag.unsqueeze(-2)
    rest, first, second = x_BTHK[..., :-width], x_BTHK[..., -width::2], x_BTHK[..., 1 - width :: 2]
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return torch.cat((rest, turned.flatten(-2).to(x_BTHK.dtype)), dim=-1)


class _Rotate(torch.autograd.Function):
    """A complex product: pairs are adjacent, so nothing is shuffled; backward turns back."""

    @staticmethod
    def forward(ctx: Any, x_BTHK: Tensor, turns_BT1P: Tensor) -> Tensor:
        ctx.save_for_backward(turns_BT1P)
        return _turn(x_BTHK, turns_BT1P)

    @staticmethod
    def backward(ctx: Any, grad_BTHK: Tensor) -> tuple[Tensor, None]:
        (turns_BT1P,) = ctx.saved_tensors
        return _turn(grad_BTHK, turns_BT1P.conj()), None


def _turn(x_BTHK: Tensor, turns_BT1P: Tensor) -> Tensor:
    width = 2 * turns_BT1P.shape[-1]
    pairs_BTHR = x_BTHK[..., -width:]
    real = torch.promote_types(pairs_BTHR.dtype, turns_BT1P.dtype.to_real())
    if pairs_BTHR.dtype != real:
        pairs_BTHR = pairs_BTHR.to(real)
    if pairs_BTHR.storage_offset() % 2 or any(stride % 2 for stride in pairs_BTHR.stride()[:-1]):
        pairs_BTHR = pairs_BTHR.contiguous()  # a complex number begins at an even place
    pairs_BTHP = torch.view_as_complex(pairs_BTHR.view(*pairs_BTHR.shape[:-1], -1, 2))
    turned_BTHR = torch.view_as_real(pairs_BTHP * turns_BT1P).view(pairs_BTHR.shape).to(x_BTHK.dtype)
    if width == x_BTHK.shape[-1]:
        return turned_BTHR
    return torch.cat((x_BTHK[..., :-width], turned_BTHR), dim=-1)
