"""The gated activation silu(gate) · up over one tensor that holds gate | up.

Shapes: F hidden width; the last dimension of the input is 2F.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def swiglu_plain(gate_up: Tensor) -> Tensor:
    """silu(gate) · up, by autograd: the reference."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def swiglu(gate_up: Tensor) -> Tensor:
    """The same; keeps only its input for backward, and writes both gradients into one tensor."""
    if not torch.is_grad_enabled():
        return swiglu_forward(gate_up)
    return _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]


def swiglu_forward(gate_up: Tensor) -> Tensor:
    """The product in one new tensor, outside autograd."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def swiglu_backward(gate_up: Tensor, grad: Tensor, silu_gate: Tensor) -> Tensor:
    """Gradient of gate | up from that of the product; ``silu_gate`` is silu(gate)."""
    gate, up = gate_up.chunk(2, dim=-1)
    grad_gate_up = torch.empty_like(gate_up)
    grad_gate, grad_up = grad_gate_up.chunk(2, dim=-1)
    torch.mul(grad, silu_gate, out=grad_up)
    torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
    return grad_gate_up


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return swiglu_forward(gate_up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        return swiglu_backward(gate_up, grad, F.silu(gate_up.chunk(2, dim=-1)[0]))
