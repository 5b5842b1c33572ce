"""QK-Clip: after an update, scale down the query and key weights of heads whose attention logits grew too large.

Shapes: H query heads, G key heads, S all query heads of all modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from openk2.optim.sharding import is_dtensor, local, local_rows


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
def clip_(
    modules: Sequence[ClippableAttention], tau: float, alpha: float = 0.5, group: dist.ProcessGroup | None = None
) -> ClipReport:
    """Scale weights in place so that no head's logits pass ``tau``, and reset ``max_logits_H`` (K2 §2.1).

    γ = min(1, τ / S_max) for each head; its logits change by exactly γ, of which queries take γ^α. Heads with
    S_max ≤ 0 or not finite are left alone and counted as invalid. Under torch.distributed the maxima are
    taken over the ranks of ``group``, in one all-reduce; as everywhere in torch, None means all ranks. The ranks of
    the group must hold the same modules, so a pipeline stage gives its own data-parallel group.
    """
    max_logits_S = torch.cat([module.max_logits_H.float() for module in modules])
    # A NaN must win on every rank alike; MAX over NaN is not defined, over inf it is.
    max_logits_S = max_logits_S.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(max_logits_S, op=dist.ReduceOp.MAX, group=group)

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
            _scale_module_(module, gamma_H, alpha)
        module.max_logits_H.fill_(-torch.inf)
    return ClipReport(max_logit, int(clipped), len(gamma_S), min_gamma, mean_gamma, int(invalid))


class _Views(nn.Module):
    """Makes ``qk_views`` something that functional_call can call."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self) -> Mapping[str, Tensor]:
        attention: ClippableAttention = self.attention  # type: ignore[assignment]
        return attention.qk_views()


def _scale_module_(module: ClippableAttention, gamma_H: Tensor, alpha: float) -> None:
    parameters = dict(module.named_parameters()) if isinstance(module, nn.Module) else {}
    cut = {name: weight for name, weight in parameters.items() if is_dtensor(weight)}
    if not isinstance(module, nn.Module) or not cut:
        _scale_(module.qk_views(), gamma_H, alpha)
        return
    # A head may lie on several ranks, and no view onto a DTensor is live: the module writes the factors of its whole
    # weights into ones, and every rank takes those of its rows.
    factors = {name: torch.ones(weight.shape, device=local(weight).device) for name, weight in cut.items()}
    stand_ins = {f"attention.{name}": factor for name, factor in factors.items()}
    _scale_(functional_call(_Views(module), stand_ins, ()), gamma_H, alpha)
    for name, weight in cut.items():
        local(weight).mul_(factors[name][local_rows(weight)])


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
