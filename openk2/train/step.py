"""The one training step, shared by pre-training, SFT and reinforcement learning.

Forward and backward over the micro-batches, a look at the gradients, the optimizer (QK-Clip included),
the balance rule. Shapes: B rows, T tokens, N selected tokens, D model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from openk2.model.transformer import Transformer
from openk2.optim.muonclip import MuonClip
from openk2.optim.qk_clip import ClipReport
from openk2.text.packing import Rows
from openk2.train.objective import cross_entropy
from openk2.train.replicas import Replicas
from openk2.train.timeline import Timeline
from openk2.train.twin import Loss


class NonFiniteLossError(FloatingPointError):
    """The loss or the gradient stopped being a number; nothing was updated."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of tokens on a device. ``loss_mask_BT`` marks tokens to be predicted from the one before."""

    tokens_BT: Tensor
    loss_mask_BT: Tensor
    doc_ids_BT: Tensor
    positions_BT: Tensor

    @classmethod
    def from_rows(cls, rows: Rows, device: torch.device) -> Batch:
        """Move packed rows to ``device``."""
        arrays = (rows.tokens, rows.loss_mask, rows.doc_ids, rows.positions)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))

    def split(self, rows: int) -> Iterator[Batch]:
        """Micro-batches of at most ``rows`` rows."""
        parts = (self.tokens_BT, self.loss_mask_BT, self.doc_ids_BT, self.positions_BT)
        for pieces in zip(*(part.split(rows) for part in parts), strict=True):
            yield Batch(*pieces)

    @property
    def num_targets(self) -> int:
        """Tokens that carry loss."""
        return int(self.loss_mask_BT[:, 1:].sum())

    def targets(self) -> tuple[Tensor, Tensor]:
        """Flat positions to predict from, and the tokens to predict, both [N]."""
        tokens = self.tokens_BT.shape[1]
        where = self.loss_mask_BT[:, 1:].flatten().nonzero().squeeze(1)
        positions_N = where // (tokens - 1) * tokens + where % (tokens - 1)
        return positions_N, self.tokens_BT.flatten().index_select(0, positions_N + 1)


@dataclass(frozen=True, slots=True)
class Compute:
    """Where a stage computes, and whether its forward passes run in bf16."""

    device: torch.device
    bf16: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 autocast, or nothing."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def head(self, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Final hidden states and head weight in the dtype of the pass.

        The loss forms its own gradients, so it wants one dtype for both, and no autocast around it.
        """
        return (hidden.bfloat16(), weight.bfloat16()) if self.bf16 else (hidden, weight)


def language_model_losses(
    batch: Batch, compute: Compute, *, micro_batch_rows: int, weight: float = 1.0, name: str = "loss"
) -> list[Loss]:
    """Next-token loss of a batch, one function for each micro-batch; the mean is over the whole batch's targets.

    ``name`` is what it is told as, before its ``weight``.
    """
    num_targets = max(1, batch.num_targets)
    return [
        functools.partial(
            _next_token_loss, part=part, compute=compute, num_targets=num_targets, weight=weight, name=name
        )
        for part in batch.split(micro_batch_rows)
    ]


def _next_token_loss(
    model: Transformer, part: Batch, compute: Compute, num_targets: int, weight: float, name: str
) -> tuple[Tensor, Mapping[str, float]]:
    with compute.autocast():
        hidden_BTD = model.hidden(part.tokens_BT, positions=part.positions_BT, doc_ids=part.doc_ids_BT)
    positions_N, targets_N = part.targets()
    hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, positions_N)
    assert model.lm_head is not None
    loss = cross_entropy(*compute.head(hidden_ND, model.lm_head.weight), targets_N, num_tokens=num_targets)
    return loss * weight, {name: float(loss.detach())}


def training_step(
    replicas: Replicas,
    optimizer: MuonClip,
    losses: Sequence[Loss],
    *,
    lr_factor: float,
    balance_rate: float,
    timeline: Timeline | None = None,
) -> dict[str, float]:
    """Run one optimizer step and tell what happened; ``timeline`` notes how long its two halves take.

    ``losses`` are the micro-batches; their values and gradients add up. Raises NonFiniteLossError, before
    any weight moves, when the summed loss or the gradient norm is not finite.
    """
    model, timeline = replicas.model.train(), timeline or Timeline()
    total, metrics = replicas.accumulate(losses)
    timeline.add(replicas.spans)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    metrics["grad_norm"] = float(torch.nn.utils.get_total_norm(gradients))
    if not (math.isfinite(total) and math.isfinite(metrics["grad_norm"])):
        raise NonFiniteLossError(f"loss {total:g}, gradient norm {metrics['grad_norm']:g}")
    optimizer.scale_lr(lr_factor)
    with timeline.span("update"):
        optimizer.step()
    metrics["lr"] = optimizer.param_groups[0]["lr"]
    if optimizer.last_clip is not None:
        metrics |= _clip_metrics(model, optimizer.last_clip)
    routers = model.routers()
    if routers:
        metrics["expert_load"] = max(router.rebalance(balance_rate) for router in routers)
    return metrics


def _clip_metrics(model: Transformer, report: ClipReport) -> dict[str, float]:
    """What the clip saw and did: in all, and the largest logit of each layer."""
    attentions = model.attentions()
    tops = report.max_logits_S.split([len(attention.max_logits_H) for attention in attentions])
    by_layer = torch.stack([top_H.max() for top_H in tops]).tolist()
    told = {f"max_logit/layer {a.layer}": top for a, top in zip(attentions, by_layer, strict=True)}
    return {
        "max_logit": report.max_logit,
        "clipped_heads": report.clipped_heads,
        "num_heads": report.num_heads,
        "min_gamma": report.min_gamma,
        **told,
    }
