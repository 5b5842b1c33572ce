"""QK-Clip: after an update, scale down the query and key weights of heads whose attention logits grew too large.

Shapes: H query heads, G key heads, S all query heads of all modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor


@runtime_checkable
class ClippableAttention(Protocol):
    """An attention module that QK-Clip can serve. It must not normalise q or k after their projection.

    ``max_logits_H`` is the running maximum over the optimizer step of q·k·softmax_scale over visible pairs;
    −inf where nothing ran.
    """

    @property
    def max_logits_H(self) -> Tensor:
        """``[H]``, updated in place by the forward pass and reset by the clip."""

    def qk_views(self) -> Mapping[str, Tensor]:
        """Live views onto the weights, heads first.

        MLA: q_nope, k_nope, q_rope (the rotary key is shared by all heads and stays). MHA and GQA: q, k.
        Biases, if any: q_bias, k_bias.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClipReport:
    """What one clip saw and did. ``max_logit`` is −inf when no head had a finite one."""

    max_logit: float
    clipped_heads: int
    num_heads: int
    min_gamma: float
    mean_gamma: float
    num_invalid: int


@torch.no_grad()
def clip_(modules: Sequence[ClippableAttention], tau: float, alpha: float = 0.5) -> ClipReport:
    """Scale weights in place so that no head's logits pass ``tau``, and reset ``max_logits_H`` (K2 §2.1).

    γ = min(1, τ / S_max) for each head; its logits change by exactly γ, of which queries take γ^α. Heads with
    S_max ≤ 0 or not finite are left alone and counted as invalid. Under torch.distributed the maxima are
    taken over all ranks, in one all-reduce; every rank must hold the same modules.
    """
    max_logits_S = torch.cat([module.max_logits_H.float() for module in modules])
    # A NaN must win on every rank alike; MAX over NaN is not defined, over inf it is.
    max_logits_S = max_logits_S.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(max_logits_S, op=dist.ReduceOp.MAX)

    finite_S = max_logits_S.isfinite()
    valid_S = finite_S & (max_logits_S > 0)
    gamma_S = torch.where(valid_S, tau / max_logits_S, 1.0).clamp(max=1.0)
    facts = [
        max_logits_S.where(finite_S, -torch.inf).max(),
        (gamma_S < 1).sum(),
        gamma_S.min(),
        gamma_S.mean(),
        (~valid_S).sum(),
    ]
    max_logit, clipped, min_gamma, mean_gamma, invalid = torch.stack([fact.float() for fact in facts]).tolist()

    sizes = [len(module.max_logits_H) for module in modules]
    for module, gamma_H in zip(modules, torch.split(gamma_S, sizes), strict=True):
        if clipped:
            _scale_(module.qk_views(), gamma_H, alpha)
        module.max_logits_H.fill_(-torch.inf)
    return ClipReport(max_logit, int(clipped), len(gamma_S), min_gamma, mean_gamma, int(invalid))


def _scale_(views: Mapping[str, Tensor], gamma_H: Tensor, alpha: float) -> None:
    """Spread γ over queries and keys. A key head shared by a group of query heads follows the least clipped one."""
    num_key_heads = len(views["k_nope" if "k_nope" in views else "k"])
    gamma_GQ = gamma_H.view(num_key_heads, -1)
    key_G = gamma_GQ.amax(dim=1) ** (1 - alpha)
    query_H = (gamma_GQ / key_G[:, None]).flatten()
    factors = {"q": query_H, "q_bias": query_H, "q_nope": query_H, "q_rope": gamma_H}
    factors |= {"k": key_G, "k_bias": key_G, "k_nope": key_G}
    for name, view in views.items():
        view.mul_(factors[name].view(-1, *[1] * (view.ndim - 1)))
