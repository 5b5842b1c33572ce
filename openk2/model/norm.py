"""Root-mean-square norm, plain and with a hand-written backward for CPU.

Shapes: D normalised width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openk2.model.layout import Layout, publish


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = publish(nn.Parameter(torch.ones(width)), Layout("norm"))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        # CUDA has a fused kernel; on CPU the same call is eight passes, and more backward.
        return rms_norm_plain(x, self.weight, self.eps) if x.is_cuda else rms_norm(x, self.weight, self.eps)


def rms_norm_plain(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """The input over its root mean square, times the gain, by PyTorch: the reference."""
    return F.rms_norm(x, weight_D.shape, weight_D, eps)


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """The same in few passes over memory, forward and backward."""
    if not torch.is_grad_enabled():
        return _normalised(x, eps)[0].mul_(weight_D)
    return _RMSNorm.apply(x, weight_D, eps)  # type: ignore[no-untyped-call]


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        unit, inverse_rms = _normalised(x, eps)
        ctx.save_for_backward(unit, inverse_rms, weight_D)
        return unit * weight_D

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, inverse_rms, weight_D = ctx.saved_tensors
        along = (grad * unit).flatten(0, -2)
        projection = torch.mv(along, weight_D).view_as(inverse_rms)
        grad_x = grad * weight_D
        grad_x.addcmul_(unit, projection, value=-1 / unit.shape[-1]).mul_(inverse_rms)
        return grad_x, along.sum(0), None


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The input over its root mean square, and the inverse of that."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse_rms = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return x * inverse_rms, inverse_rms
