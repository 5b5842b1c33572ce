"""What training minimises: next-token cross-entropy, and K2's reinforcement objective (K2 §3.2).

Every value is normalised by a count of the whole optimizer step that the caller passes in. So the values and gradients
of micro-batches add up to those of one big batch, however the step is cut. docs/objective.md derives the formulas.

Shapes: B samples, T tokens of a sample, N selected tokens, C tokens of a chunk, D model width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# ---------------------------------------------------------------------------------------------
# Reinforcement: the K1.5 objective
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The loss of a micro-batch and what to watch; each field adds up over the micro-batches of a step.

    ``loss`` carries gradients, the others do not. ``log_ratio`` is the mean over samples of the summed
    log π_θ(y) - log π_old(y); ``kl`` the mean over samples of the per-token estimate e^r - 1 - r of KL(π_old ‖ π_θ);
    ``abs_advantage`` the mean of |A|. ``importance`` is the mean over samples of the weight of their squared errors, 1
    without a cap; ``capped`` the mean over samples of the share of their weights that the cap cut.
    """

    loss: Tensor
    log_ratio: Tensor
    kl: Tensor
    abs_advantage: Tensor
    importance: Tensor
    capped: Tensor


def group_advantages(rewards_B: Tensor, groups_B: Tensor) -> Tensor:
    """Reward minus the mean reward of the sample's group, A = r - r̄ (K2 §3.2), in [B].

    ``groups_B`` holds integer ids in any order; pass all samples of a step, since a group may be spread over
    micro-batches. A group of equal rewards gets exact zeros.
    """
    _, group_B, size_G = torch.unique(groups_B, return_inverse=True, return_counts=True)
    # From the lowest of the group, so that the mean of equal rewards is that reward to the bit: 0.
    reward_B = rewards_B.double()
    low_G = reward_B.new_zeros(len(size_G)).scatter_reduce(0, group_B, reward_B, "amin", include_self=False)
    reward_B = reward_B - low_G[group_B]
    mean_G = reward_B.new_zeros(len(size_G)).index_add_(0, group_B, reward_B) / size_G
    advantages_B: Tensor = (reward_B - mean_G[group_B]).to(rewards_B.dtype)
    return advantages_B


def mixed_group_share(rewards_B: Tensor, groups_B: Tensor) -> float:
    """Share of groups whose rewards differ: the only ones that teach. 0 for an empty batch."""
    ids_G, group_B = torch.unique(groups_B, return_inverse=True)
    if len(ids_G) == 0:
        return 0.0
    start_G = rewards_B.new_zeros(len(ids_G))
    low_G = start_G.scatter_reduce(0, group_B, rewards_B, "amin", include_self=False)
    high_G = start_G.scatter_reduce(0, group_B, rewards_B, "amax", include_self=False)
    return (low_G != high_G).double().mean().item()


def sequence_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    mask_BT: Tensor,
    advantages_B: Tensor,
    *,
    tau: float,
    num_samples: int,
    importance_cap: float | None = None,
) -> PolicyLoss:
    """K1.5 as printed (K2 §3.2): Σ_i (A_i - τ Σ_t log-ratio_it)² / ``num_samples``.

    ``mask_BT`` marks the sampled tokens; what stands elsewhere does not matter. ``num_samples`` counts the whole step
    (prompts x rollouts), not this micro-batch. At π_θ = π_old the gradient is 2τ times that of -A·log π(y). Muon and
    AdamW undo that factor (AdamW far above its ε); plain SGD, and a sum with another loss, do not.

    ``importance_cap`` is for samples of older weights, or of an engine that computes otherwise: it weighs the square of
    each sample by min(π_θ(y) / π_old(y), cap), a constant to the gradient. On policy that is 1, to the bit. A sampled
    token whose log-probability is not finite makes the loss not finite, never quietly a number: drop its sample before.
    Raises ValueError for a cap below 1 or not finite.
    """
    ratio_BT = _masked_log_ratio(logprobs_BT, old_logprobs_BT, mask_BT)
    ratio_B = ratio_BT.sum(1)
    error_B = advantages_B - tau * ratio_B
    weight_B, cut_B = _importance(ratio_B, importance_cap)
    return _policy_loss(weight_B * error_B.square(), weight_B, cut_B, ratio_BT, mask_BT, advantages_B, num_samples)


def token_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    mask_BT: Tensor,
    advantages_B: Tensor,
    *,
    tau: float,
    num_samples: int,
    importance_cap: float | None = None,
) -> PolicyLoss:
    """K1.5 token by token: Σ_i 1/|y_i| Σ_t (A_i - τ log-ratio_it)² / ``num_samples``.

    The log-ratio of a sequence walks with its length; that of a token does not, so long answers keep their weight.
    Arguments as for ``sequence_loss``, but each token has its own importance weight; a sample without sampled tokens
    counts as 0.
    """
    ratio_BT = _masked_log_ratio(logprobs_BT, old_logprobs_BT, mask_BT)
    error_BT = advantages_B[:, None] - tau * ratio_BT
    weight_BT, cut_BT = _importance(ratio_BT, importance_cap)
    loss_B, weight_B, cut_B = (
        _token_mean(values_BT, mask_BT) for values_BT in (weight_BT * error_BT.square(), weight_BT, cut_BT)
    )
    return _policy_loss(loss_B, weight_B, cut_B, ratio_BT, mask_BT, advantages_B, num_samples)


def _masked_log_ratio(logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    dtype = torch.promote_types(logprobs_BT.dtype, torch.float32)
    return (logprobs_BT.to(dtype) - old_logprobs_BT.to(dtype)).masked_fill(~mask_BT.bool(), 0.0)


def _importance(log_ratio: Tensor, cap: float | None) -> tuple[Tensor, Tensor]:
    """Weights min(π_θ / π_old, ``cap``), and 1 where the cap cut; both without gradient, all 1 and 0 without a cap."""
    if cap is None:
        return torch.ones_like(log_ratio), torch.zeros_like(log_ratio)
    if not 1 <= cap < math.inf:
        raise ValueError(f"importance_cap must be a finite number of 1 or more, or None for no weights, got {cap}")
    # What overflows is infinite, so cut; a NaN stays one.
    ratio = log_ratio.detach().exp()
    return ratio.clamp(max=cap), (ratio > cap).to(ratio.dtype)


def _token_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    length_B = mask_BT.bool().sum(1).clamp(min=1)
    return values_BT.masked_fill(~mask_BT.bool(), 0.0).sum(1) / length_B


def _policy_loss(
    loss_B: Tensor,
    weight_B: Tensor,
    cut_B: Tensor,
    ratio_BT: Tensor,
    mask_BT: Tensor,
    advantages_B: Tensor,
    num_samples: int,
) -> PolicyLoss:
    fixed_BT = ratio_BT.detach()
    return PolicyLoss(
        loss=loss_B.sum() / num_samples,
        log_ratio=fixed_BT.sum() / num_samples,
        kl=_token_mean(fixed_BT.expm1() - fixed_BT, mask_BT).sum() / num_samples,
        abs_advantage=advantages_B.detach().abs().sum() / num_samples,
        importance=weight_B.sum() / num_samples,
        capped=cut_B.sum() / num_samples,
    )


# ---------------------------------------------------------------------------------------------
# Likelihood: cross-entropy and log-probabilities without a [tokens, vocabulary] tensor
# ---------------------------------------------------------------------------------------------

CHUNK_TOKENS = 512
"""Tokens whose logits exist at once: 330 MB in fp32 at K2's vocabulary, 4 MB at 2048 entries."""


def cross_entropy(
    hidden_ND: Tensor, head_weight_VD: Tensor, targets_N: Tensor, *, num_tokens: int, chunk_tokens: int = CHUNK_TOKENS
) -> Tensor:
    """Next-token loss, -Σ log p(target) / ``num_tokens``, a scalar in nats.

    ``hidden_ND`` are the final hidden states of the positions to learn from, ``targets_N`` the tokens that follow
    them, ``num_tokens`` the number of such positions in the whole optimizer step. Products run in the dtype given,
    softmax in fp32 or wider. Gradients are formed on the way forward, so that no logits are kept or made twice.
    Used by pre-training, SFT and PTX (K2 §2.5, §3).
    """
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or head_weight_VD.requires_grad):
        loss: Tensor = _CrossEntropy.apply(hidden_ND, head_weight_VD, targets_N, num_tokens, chunk_tokens)  # type: ignore[no-untyped-call]
        return loss
    return -token_logprobs(hidden_ND, head_weight_VD, targets_N, chunk_tokens=chunk_tokens).sum() / num_tokens


def token_logprobs(
    hidden_ND: Tensor,
    head_weight_VD: Tensor,
    targets_N: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """Log p(target) under softmax(logits / temperature), [N], in fp32 or wider, with gradient.

    ``temperature`` is the one the tokens were sampled with, or [N], one for each token; it gets no gradient. Logits are
    made again on the way back, a chunk at a time. Raises ValueError for a temperature that is not positive.
    """
    if isinstance(temperature, Tensor):
        if temperature.shape != targets_N.shape:
            raise ValueError(f"temperature has shape {list(temperature.shape)}, the tokens {list(targets_N.shape)}")
        if not (temperature > 0).all():
            where = int((temperature > 0).logical_not().nonzero()[0])
            raise ValueError(f"temperature must be positive, got {temperature[where]:g} for token {where}")
        temperature = temperature.to(hidden_ND.device, _widened(hidden_ND[:0]).dtype)
    elif not temperature > 0:
        raise ValueError(f"temperature must be positive to give log-probabilities, got {temperature}")
    logprobs_N: Tensor = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_ND, head_weight_VD, targets_N, temperature, chunk_tokens
    )
    return logprobs_N


def plain_token_logprobs(
    hidden_ND: Tensor, head_weight_VD: Tensor, targets_N: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    """``token_logprobs`` in its plain form, with all logits at once: what the chunked form is tested against."""
    logits_NV = _widened(F.linear(hidden_ND, head_weight_VD))
    scale = temperature[:, None] if isinstance(temperature, Tensor) else temperature
    logprobs_NV = (logits_NV / scale).log_softmax(-1)
    return logprobs_NV.gather(1, targets_N[:, None]).squeeze(1)


def plain_cross_entropy(hidden_ND: Tensor, head_weight_VD: Tensor, targets_N: Tensor, *, num_tokens: int) -> Tensor:
    """``cross_entropy`` in its plain form, with all logits at once: what the chunked form is tested against."""
    return F.cross_entropy(_widened(F.linear(hidden_ND, head_weight_VD)), targets_N, reduction="sum") / num_tokens


def _widened(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _chunks(num_tokens: int, chunk_tokens: int) -> Iterator[slice]:
    return (slice(start, start + chunk_tokens) for start in range(0, num_tokens, chunk_tokens))


def _chunk_logprobs(hidden_CD: Tensor, weight_VD: Tensor, temperature: float | Tensor) -> Tensor:
    logits_CV = _widened(F.linear(hidden_CD, weight_VD))
    if isinstance(temperature, Tensor):
        return (logits_CV / temperature[:, None]).log_softmax(-1)
    return (logits_CV / temperature if temperature != 1.0 else logits_CV).log_softmax(-1)


def _of_chunk(temperature: float | Tensor, chunk: slice) -> float | Tensor:
    return temperature[chunk] if isinstance(temperature, Tensor) else temperature


class _HeadGradients:
    """Adds up, chunk by chunk, what Σ_n grad_n · log p(target_n) sends back to the hidden states and to the head."""

    def __init__(self, hidden_ND: Tensor, weight_VD: Tensor, wanted: tuple[bool, ...]) -> None:
        self.weight_VD = weight_VD
        self.hidden_ND = torch.empty_like(hidden_ND) if wanted[0] else None
        # Wide, because a sum of many chunks would drown in bf16.
        self.head_VD = torch.zeros_like(_widened(weight_VD)) if wanted[1] else None

    def add(
        self, chunk: slice, hidden_CD: Tensor, logprobs_CV: Tensor, targets_C: Tensor, grad_C: Tensor | float
    ) -> None:
        """Take one chunk; ``logprobs_CV`` is used up."""
        scale = grad_C[:, None] if isinstance(grad_C, Tensor) else grad_C
        # d log p(target) / d logits = onehot(target) - p
        grad_CV = logprobs_CV.exp_().neg_()
        grad_CV[torch.arange(len(targets_C), device=targets_C.device), targets_C] += 1.0
        grad_CV = grad_CV.mul_(scale).to(hidden_CD.dtype)
        if self.hidden_ND is not None:
            self.hidden_ND[chunk] = grad_CV @ self.weight_VD
        if self.head_VD is not None:
            self.head_VD += grad_CV.T @ hidden_CD

    def result(self) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of hidden states and head, in their own dtypes."""
        return self.hidden_ND, None if self.head_VD is None else self.head_VD.to(self.weight_VD.dtype)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, num_tokens: int, chunk_tokens: int
    ) -> Tensor:
        gradients = _HeadGradients(hidden_ND, weight_VD, ctx.needs_input_grad)
        loss = _widened(hidden_ND.new_zeros(()))
        for chunk in _chunks(len(hidden_ND), chunk_tokens):
            hidden_CD, targets_C = hidden_ND[chunk], targets_N[chunk]
            logprobs_CV = _chunk_logprobs(hidden_CD, weight_VD, 1.0)
            loss -= logprobs_CV.gather(1, targets_C[:, None]).sum()
            gradients.add(chunk, hidden_CD, logprobs_CV, targets_C, -1.0 / num_tokens)
        ctx.gradients = gradients.result()
        return loss / num_tokens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, head_VD = (None if part is None else part * grad.to(part.dtype) for part in ctx.gradients)
        return hidden_ND, head_VD, None, None, None


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        temperature: float | Tensor,
        chunk_tokens: int,
    ) -> Tensor:
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N)
        ctx.temperature, ctx.chunk_tokens = temperature, chunk_tokens
        logprobs_N = _widened(hidden_ND.new_empty(len(hidden_ND)))
        for chunk in _chunks(len(hidden_ND), chunk_tokens):
            logprobs_CV = _chunk_logprobs(hidden_ND[chunk], weight_VD, _of_chunk(temperature, chunk))
            logprobs_N[chunk] = logprobs_CV.gather(1, targets_N[chunk, None]).squeeze(1)
        return logprobs_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, targets_N = ctx.saved_tensors
        gradients = _HeadGradients(hidden_ND, weight_VD, ctx.needs_input_grad)
        for chunk in _chunks(len(hidden_ND), ctx.chunk_tokens):
            hidden_CD = hidden_ND[chunk]
            temperature = _of_chunk(ctx.temperature, chunk)
            logprobs_CV = _chunk_logprobs(hidden_CD, weight_VD, temperature)
            gradients.add(chunk, hidden_CD, logprobs_CV, targets_N[chunk], grad_N[chunk] / temperature)
        return *gradients.result(), None, None, None
