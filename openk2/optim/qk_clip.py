"""QK-Clip: after an update, scale down the query and key weights of heads whose attention logits grew too large.

Shapes: H query heads, G key heads, S all query heads of all modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, cast
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from openk2.optim.sharding import is_dtensor, local, local_rows

Per = Literal["head", "layer"]


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


@dataclass(frozen=True, eq=False)
class ClipReport:
    """What one clip saw and did, a number for each head, in the order of the modules.

    The tensors stay on their device; reading any of the numbers waits for it, once.
    """

    max_logits_S: Tensor
    """Over all ranks; +inf where a logit was NaN, −inf where nothing ran."""
    gamma_S: Tensor

    @property
    def num_heads(self) -> int:
        """How many query heads there are, in all modules."""
        return len(self.gamma_S)

    @property
    def max_logit(self) -> float:
        """The largest finite maximum; −inf when no head had one."""
        return self._numbers[0]

    @property
    def clipped_heads(self) -> int:
        """How many heads were scaled down."""
        return int(self._numbers[1])

    @property
    def min_gamma(self) -> float:
        """γ of the head that was scaled most."""
        return self._numbers[2]

    @property
    def mean_gamma(self) -> float:
        """γ, averaged over the heads."""
        return self._numbers[3]

    @property
    def num_invalid(self) -> int:
        """How many heads had a maximum that says nothing: ≤ 0, not finite, or none."""
        return int(self._numbers[4])

    @cached_property
    def _numbers(self) -> list[float]:
        top_S = self.max_logits_S
        facts = [
            top_S.where(top_S.isfinite(), -torch.inf).max(),
            (self.gamma_S < 1).sum(),
            self.gamma_S.min(),
            self.gamma_S.mean(),
            (~_valid(top_S)).sum(),
        ]
        return torch.stack([fact.float() for fact in facts]).tolist()


# Who clips what, while it lives: two that clip one module would take each other's maxima.
CLIPPERS: WeakKeyDictionary[object, Sequence[ClippableAttention]] = WeakKeyDictionary()


def clipper_of(modules: Sequence[ClippableAttention]) -> object | None:
    """What clips one of ``modules`` already, if anything does."""
    wanted = {id(module) for module in modules}
    return next((clipper for clipper, own in CLIPPERS.items() if wanted & {id(module) for module in own}), None)


def clippable(model: nn.Module) -> list[ClippableAttention]:
    """The attention modules of ``model`` that QK-Clip can serve."""
    # Not isinstance: from Python 3.12 on, a protocol does not see a module's buffers.
    wanted = ("max_logits_H", "qk_views")
    return [cast(ClippableAttention, m) for m in model.modules() if all(hasattr(m, name) for name in wanted)]


@torch.no_grad()
def clip_(
    modules: Sequence[ClippableAttention],
    tau: float,
    alpha: float = 0.5,
    *,
    per: Per = "head",
    tau_over_median: float | None = None,
    group: dist.ProcessGroup | None = None,
) -> ClipReport:
    """Scale weights in place so that no head's logits pass ``tau``, and reset ``max_logits_H`` (K2 §2.1).

    γ = min(1, τ / S_max) for each head; its logits change by exactly γ, of which queries take γ^α. Heads with
    S_max ≤ 0 or not finite count as invalid and have γ = 1. ``per`` "layer": all heads of a module take its smallest
    γ, the naive clip of the paper. ``tau_over_median``: the limit is at least so many times the median of all heads'
    finite maxima. Under torch.distributed the maxima are taken over the ranks of ``group``, in one all-reduce; as
    everywhere in torch, None means all ranks. They must hold the same modules, so a pipeline stage gives its own
    data-parallel group. Waits for no device.
    """
    max_logits_S = torch.cat([module.max_logits_H.float() for module in modules])
    # A NaN must win on every rank alike; MAX over NaN is not defined, over inf it is.
    max_logits_S = max_logits_S.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(max_logits_S, op=dist.ReduceOp.MAX, group=group)

    limit = max_logits_S.new_full((), tau)
    if tau_over_median is not None:
        limit = limit.maximum(tau_over_median * _median(max_logits_S))
    gamma_S = torch.where(_valid(max_logits_S), limit / max_logits_S, 1.0).clamp(max=1.0)
    gammas_H = list(torch.split(gamma_S, [len(module.max_logits_H) for module in modules]))
    if per == "layer":
        gammas_H = [gamma_H.amin().expand_as(gamma_H) for gamma_H in gammas_H]
    for module, gamma_H in zip(modules, gammas_H, strict=True):
        # Also where every γ is 1, which changes no bit: to ask first would wait for the device.
        _scale_module_(module, gamma_H, alpha)
    forget(modules)
    return ClipReport(max_logits_S, torch.cat(gammas_H))


def forget(modules: Sequence[ClippableAttention]) -> None:
    """Reset the maxima: the step they belong to is over, taken or not."""
    for module in modules:
        module.max_logits_H.fill_(-torch.inf)


def _valid(max_logits_S: Tensor) -> Tensor:
    return max_logits_S.isfinite() & (max_logits_S > 0)


def _median(max_logits_S: Tensor) -> Tensor:
    """Of what is finite, the lower of two; +inf where nothing is. torch.nanmedian would wait for the device."""
    finite_S = max_logits_S.isfinite()
    ordered_S = max_logits_S.where(finite_S, torch.inf).sort().values
    return ordered_S.take((finite_S.sum() - 1).clamp(min=0) // 2)


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
