"""Feed-forward layers: dense SwiGLU, and routed experts with a shared one (K2 §2.3).

Shapes: B batch, T tokens, M = B·T flattened tokens, D model, F expert width, E experts, K experts per token.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openk2.model.attention import linear
from openk2.model.config import ModelConfig
from openk2.model.experts import run_experts
from openk2.model.layout import Layout, publish
from openk2.model.swiglu import swiglu

# (x_MD, expert ids_MK, gates_MK, the local experts) -> y_MD. Expert parallelism brings its own.
Dispatch = Callable[[Tensor, Tensor, Tensor, "Experts"], Tensor]


class Routing:
    """Which experts each token visits, by layer: recorded, or replayed when already filled.

    ``experts[layer]`` is an integer tensor [B, T, K]. A layer that finds its entry routes by it
    (gates still come from its own scores); one that does not, writes it.
    """

    def __init__(self, experts: dict[int, Tensor] | None = None) -> None:
        self.experts: dict[int, Tensor] = dict(experts or {})


class SwiGLU(nn.Module):
    """Dense feed-forward: down(silu(gate(x)) · up(x)), gate and up stored as one matrix."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up_proj = linear(width, 2 * hidden, Layout("matrix", pieces=(("gate", hidden), ("up", hidden))))
        self.down_proj = linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        return self.down_proj(swiglu(self.gate_up_proj(x)))


class Router(nn.Module):
    """Sigmoid scores, top-k on score + bias, gates renormalised over the chosen; in float32."""

    e_score_correction_bias: Tensor
    load_E: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = publish(nn.Parameter(torch.empty(config.num_experts, config.hidden_size)), Layout("router"))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts))
        # Tokens each expert received in the current optimizer step: what the balance rule reads.
        self.register_buffer("load_E", torch.zeros(config.num_experts), persistent=False)

    def forward(self, x_MD: Tensor, chosen_MK: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Expert ids and gates, both [M, K]; ``chosen_MK`` fixes the ids (router replay)."""
        with torch.autocast(x_MD.device.type, enabled=False):
            scores_ME = F.linear(x_MD.float(), self.weight.float()).sigmoid()
        if chosen_MK is None:
            chosen_MK = self._choose(scores_ME.detach())
        gates_MK = scores_ME.gather(1, chosen_MK)
        gates_MK = gates_MK / (gates_MK.sum(dim=-1, keepdim=True) + 1e-20) * self.config.routed_scaling_factor
        if self.training:
            self.load_E += torch.bincount(chosen_MK.flatten(), minlength=self.config.num_experts)
        return chosen_MK, gates_MK

    def _choose(self, scores_ME: Tensor) -> Tensor:
        c = self.config
        biased_ME = scores_ME + self.e_score_correction_bias
        if c.num_expert_groups > 1:
            grouped_MGX = biased_ME.unflatten(-1, (c.num_expert_groups, -1))
            group_scores_MG = grouped_MGX.topk(2, dim=-1).values.sum(dim=-1)
            best_MG = group_scores_MG.topk(c.num_groups_per_token, dim=-1).indices
            kept_MG = torch.zeros_like(group_scores_MG, dtype=torch.bool).scatter_(1, best_MG, True)
            biased_ME = grouped_MGX.masked_fill(~kept_MG.unsqueeze(-1), float("-inf")).flatten(1)
        return biased_ME.topk(c.num_experts_per_token, dim=-1, sorted=False).indices

    @torch.no_grad()
    def rebalance(self, rate: float) -> float:
        """Auxiliary-loss-free balance: raise the bias of experts with too little load, lower the others.

        Returns max load over mean load of the step and starts the next count. Called once a step,
        after the load was summed over the global batch (arXiv 2408.15664; K2 §2.3).
        """
        mean = self.load_E.mean()
        imbalance = float(self.load_E.max() / mean.clamp(min=1e-9))
        self.e_score_correction_bias += rate * torch.sign(mean - self.load_E)
        self.load_E.zero_()
        return imbalance


class Experts(nn.Module):
    """All routed experts of a layer, stacked: ``gate_up`` [E, 2F, D] and ``down`` [E, D, F]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        count, width, hidden = config.num_experts, config.hidden_size, config.moe_intermediate_size
        pieces = (("gate", hidden), ("up", hidden))
        self.gate_up = publish(nn.Parameter(torch.empty(count, 2 * hidden, width)), Layout("experts", pieces=pieces))
        self.down = publish(nn.Parameter(torch.empty(count, width, hidden)), Layout("experts"))


def dispatch_locally(x_MD: Tensor, chosen_MK: Tensor, gates_MK: Tensor, experts: Experts) -> Tensor:
    """All experts live here: sort tokens by expert, run them, add the results up."""
    return run_experts(x_MD, chosen_MK, gates_MK, experts.gate_up, experts.down)


class MoE(nn.Module):
    """Routed experts plus the shared one."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.gate = Router(config)
        self.experts = Experts(config)
        self.shared_experts = (
            SwiGLU(config.hidden_size, config.num_shared_experts * config.moe_intermediate_size)
            if config.num_shared_experts
            else None
        )

    def forward(self, x_BTD: Tensor, routing: Routing | None = None, dispatch: Dispatch = dispatch_locally) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        x_MD = x_BTD.flatten(0, -2)
        replayed = routing.experts.get(self.layer) if routing is not None else None
        chosen_MK, gates_MK = self.gate(x_MD, None if replayed is None else replayed.flatten(0, -2))
        if routing is not None and replayed is None:
            routing.experts[self.layer] = chosen_MK.view(*x_BTD.shape[:-1], -1)
        y_BTD = dispatch(x_MD, chosen_MK, gates_MK, self.experts).view_as(x_BTD)
        return y_BTD if self.shared_experts is None else y_BTD + self.shared_experts(x_BTD)
