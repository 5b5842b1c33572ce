"""Running many small experts over the tokens routed to them.

Shapes: M tokens, K experts per token, A = M·K assignments sorted by expert, D model, F expert width, E experts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def run_experts_plain(
    x_MD: Tensor, chosen_MK: Tensor, gates_MK: Tensor, gate_up_EXD: Tensor, down_EDF: Tensor
) -> Tensor:
    """Σ_k gate_k · down_e(silu(gate_e(x)) · up_e(x)), one expert after the other: the reference."""
    y_MD = torch.zeros_like(x_MD)
    for expert in range(gate_up_EXD.shape[0]):
        tokens, slots = torch.where(chosen_MK == expert)
        gate, up = F.linear(x_MD.index_select(0, tokens), gate_up_EXD[expert]).chunk(2, dim=-1)
        out = F.linear(F.silu(gate) * up, down_EDF[expert]) * gates_MK[tokens, slots].unsqueeze(-1).to(x_MD.dtype)
        y_MD = y_MD.index_add(0, tokens, out.to(y_MD.dtype))
    return y_MD


run_experts = run_experts_plain
