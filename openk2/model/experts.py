"""Running many small experts over the tokens routed to them.

Shapes: M tokens, K experts per token, A = M·K assignments sorted by expert, D model, F expert width,
X = 2F gate and up, E experts.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openk2.model.swiglu import swiglu, swiglu_backward, swiglu_forward, swiglu_plain


def run_experts(x_MD: Tensor, chosen_MK: Tensor, gates_MK: Tensor, gate_up_EXD: Tensor, down_EDF: Tensor) -> Tensor:
    """Σ_k gate_k · down_e(silu(gate_e(x)) · up_e(x)): the fast way for where the tokens are."""
    if x_MD.is_cuda:
        return run_experts_grouped(x_MD, chosen_MK, gates_MK, gate_up_EXD, down_EDF)
    gates_MK = gates_MK.to(x_MD.dtype)
    if not torch.is_grad_enabled() and len(x_MD) == 1:
        return _run_for_one_token(x_MD, chosen_MK, gates_MK, gate_up_EXD, down_EDF)
    return _SortedExperts.apply(x_MD, chosen_MK, gates_MK, gate_up_EXD, down_EDF)  # type: ignore[no-untyped-call]


def run_experts_plain(
    x_MD: Tensor, chosen_MK: Tensor, gates_MK: Tensor, gate_up_EXD: Tensor, down_EDF: Tensor
) -> Tensor:
    """The same, one expert after the other: the reference."""
    y_MD = torch.zeros_like(x_MD)
    for expert in range(gate_up_EXD.shape[0]):
        tokens, slots = torch.where(chosen_MK == expert)
        hidden = swiglu_plain(F.linear(x_MD.index_select(0, tokens), gate_up_EXD[expert]))
        out = F.linear(hidden, down_EDF[expert]) * gates_MK[tokens, slots].unsqueeze(-1).to(x_MD.dtype)
        y_MD = y_MD.index_add(0, tokens, out.to(y_MD.dtype))
    return y_MD


def _run_for_one_token(
    x_1D: Tensor, chosen_1K: Tensor, gates_1K: Tensor, gate_up_EXD: Tensor, down_EDF: Tensor
) -> Tensor:
    """Nothing to sort: the chosen experts one after the other, their activations at once."""
    experts = chosen_1K[0].tolist()
    gate_up_KX = torch.cat([x_1D.mm(gate_up_EXD[expert].mT) for expert in experts])
    hidden_KF = swiglu_forward(gate_up_KX).mul_(gates_1K.mT)
    y_1D = torch.zeros_like(x_1D)
    for expert, hidden_1F in zip(experts, hidden_KF.split(1), strict=True):
        y_1D.addmm_(hidden_1F, down_EDF[expert].mT)
    return y_1D


def sort_by_expert(chosen_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Assignments in expert order, [A], and where each went, [M, K]."""
    order_A = chosen_MK.flatten().argsort(stable=True)
    place_A = torch.empty_like(order_A)
    place_A[order_A] = torch.arange(order_A.shape[0], device=order_A.device)
    return order_A, place_A.view_as(chosen_MK)


class _SortedExperts(torch.autograd.Function):
    """All experts in one node: a matrix product an expert, written in place into the sorted rows.

    Gates multiply the hidden activation (narrower than the output), so their gradient needs no output row.
    """

    @staticmethod
    def forward(
        ctx: Any, x_MD: Tensor, chosen_MK: Tensor, gates_MK: Tensor, gate_up_EXD: Tensor, down_EDF: Tensor
    ) -> Tensor:
        order_A, place_MK = sort_by_expert(chosen_MK)
        token_A = order_A.div(chosen_MK.shape[1], rounding_mode="floor")
        counts = torch.bincount(chosen_MK.flatten(), minlength=gate_up_EXD.shape[0]).tolist()
        x_AD = x_MD.index_select(0, token_A)
        gate_up_AX = _multiply_each(x_AD, gate_up_EXD.mT, counts)
        gates_A1 = gates_MK.flatten().index_select(0, order_A).unsqueeze(-1)
        hidden_AF = swiglu_forward(gate_up_AX).mul_(gates_A1)
        y_AD = _multiply_each(hidden_AF, down_EDF.mT, counts)
        ctx.counts = counts
        ctx.save_for_backward(x_AD, gate_up_AX, hidden_AF, gates_A1, token_A, place_MK, gate_up_EXD, down_EDF)
        return _sum_slots(y_AD, place_MK)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor, None, Tensor, Tensor, Tensor]:
        x_AD, gate_up_AX, hidden_AF, gates_A1, token_A, place_MK, gate_up_EXD, down_EDF = ctx.saved_tensors
        counts = ctx.counts
        grad_AD = grad_MD.index_select(0, token_A)
        grad_down_EDF = _multiply_transposed(grad_AD, hidden_AF, counts)
        grad_hidden_AF = _multiply_each(grad_AD, down_EDF, counts)
        gate_AF, up_AF = gate_up_AX.chunk(2, dim=-1)
        silu_AF = F.silu(gate_AF)
        grad_gates_A = (silu_AF * up_AF).mul_(grad_hidden_AF).sum(-1)
        grad_gate_up_AX = swiglu_backward(gate_up_AX, grad_hidden_AF.mul_(gates_A1), silu_AF)
        grad_gate_up_EXD = _multiply_transposed(grad_gate_up_AX, x_AD, counts)
        grad_x_MD = _sum_slots(_multiply_each(grad_gate_up_AX, gate_up_EXD, counts), place_MK)
        grad_gates_MK = grad_gates_A.index_select(0, place_MK.flatten()).view_as(place_MK)
        return grad_x_MD, None, grad_gates_MK, grad_gate_up_EXD, grad_down_EDF


def _multiply_each(x_AI: Tensor, w_EIO: Tensor, counts: list[int]) -> Tensor:
    """Rows of each expert times its matrix: [A, I] · [E, I, O] to [A, O]."""
    out_AO = x_AI.new_empty(x_AI.shape[0], w_EIO.shape[2])
    visited = [(expert, count) for expert, count in enumerate(counts) if count]
    sizes = [count for _, count in visited]
    for (expert, _), x, out in zip(visited, x_AI.split(sizes), out_AO.split(sizes), strict=True):
        torch.mm(x, w_EIO[expert], out=out)
    return out_AO


def _multiply_transposed(left_AI: Tensor, right_AO: Tensor, counts: list[int]) -> Tensor:
    """For each expert leftᵀ · right over its rows: [E, I, O]; zero where it has none."""
    out_EIO = left_AI.new_empty(len(counts), left_AI.shape[1], right_AO.shape[1])
    for left, right, out in zip(left_AI.split(counts), right_AO.split(counts), out_EIO.unbind(), strict=True):
        torch.mm(left.mT, right, out=out)
    return out_EIO


def _sum_slots(y_AD: Tensor, place_MK: Tensor) -> Tensor:
    """Add up the K rows of each token: one pass, in a fixed order."""
    return F.embedding_bag(place_MK, y_AD, mode="sum")


def run_experts_grouped(
    x_MD: Tensor, chosen_MK: Tensor, gates_MK: Tensor, gate_up_EXD: Tensor, down_EDF: Tensor
) -> Tensor:
    """For CUDA: two grouped products in bfloat16, no host synchronisation."""
    order_A, place_MK = sort_by_expert(chosen_MK)
    load_E = torch.histc(chosen_MK.float(), gate_up_EXD.shape[0], 0, gate_up_EXD.shape[0] - 1)
    ends_E = load_E.cumsum(0).to(torch.int32)
    x_AD = _Spread.apply(x_MD.bfloat16(), order_A, place_MK)  # type: ignore[no-untyped-call]
    hidden_AF = swiglu(torch._grouped_mm(x_AD, gate_up_EXD.bfloat16().mT, offs=ends_E))
    y_AD = torch._grouped_mm(hidden_AF, down_EDF.bfloat16().mT, offs=ends_E)
    y_AD = _Permute.apply(y_AD, place_MK.flatten(), order_A)  # type: ignore[no-untyped-call]
    y_MKD = y_AD.unflatten(0, place_MK.shape)
    return (y_MKD.float() * gates_MK.unsqueeze(-1)).sum(1).to(x_MD.dtype)


class _Spread(torch.autograd.Function):
    """Copy tokens to their sorted assignments; backward adds the copies up in a fixed order."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, order_A: Tensor, place_MK: Tensor) -> Tensor:
        ctx.save_for_backward(place_MK)
        return x_MD.index_select(0, order_A.div(place_MK.shape[1], rounding_mode="floor"))

    @staticmethod
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor, None, None]:
        (place_MK,) = ctx.saved_tensors
        grad_MKD = grad_AD.index_select(0, place_MK.flatten()).unflatten(0, place_MK.shape)
        return grad_MKD.sum(1), None, None


class _Permute(torch.autograd.Function):
    """Reorder rows; backward reorders them back instead of adding into zeros."""

    @staticmethod
    def forward(ctx: Any, x_AD: Tensor, forth_A: Tensor, back_A: Tensor) -> Tensor:
        ctx.save_for_backward(back_A)
        return x_AD.index_select(0, forth_A)

    @staticmethod
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor, None, None]:
        (back_A,) = ctx.saved_tensors
        return grad_AD.index_select(0, back_A), None, None
