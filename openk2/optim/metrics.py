"""Numbers that tell how matrices and their updates look: spread of singular values, distance from orthogonal, size.

Shapes: ``...`` leading dimensions (experts), N rows, M columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from openk2.optim.muonclip import MuonClip


def svd_entropy(x: Tensor) -> Tensor:
    """How evenly singular values carry a matrix: 1 all alike, 0 a single one; ``[..., N, M]`` to ``[...]``.

    −Σ p·ln p / ln min(N, M) with p = σ²/Σσ² (arXiv 2502.16982, after Alter et al. 2000). A zero matrix has 0.
    """
    power = torch.linalg.svdvals(x.detach().float()).square()
    share = power / power.sum(-1, keepdim=True).clamp(min=1e-30)
    entropy = -torch.special.xlogy(share, share).sum(-1)
    return entropy / math.log(max(2, min(x.shape[-2:])))


def effective_rank(x: Tensor) -> Tensor:
    """How many equal singular values have that entropy: from 1 to min(N, M) (Roy & Vetterli 2007); in ``[...]``."""
    return torch.exp(svd_entropy(x) * math.log(max(2, min(x.shape[-2:]))))


def orthogonality_error(x: Tensor) -> Tensor:
    """‖x·xᵀ − I‖ / √n over the shorter side n: the root mean square of σ² − 1; ``[..., N, M]`` to ``[...]``."""
    wide = x.detach().float()
    wide = wide.mT if wide.shape[-2] > wide.shape[-1] else wide
    gram = wide @ wide.mT
    gram.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    error: Tensor = torch.linalg.matrix_norm(gram) / math.sqrt(gram.shape[-1])
    return error


@dataclass(frozen=True, slots=True)
class UpdateMetrics:
    """How Muon's update of a block looked at lr 1; means over its matrices."""

    parameter: str
    block: str
    rms: float
    orthogonality_error: float
    effective_rank: float


@contextmanager
def update_metrics(optimizer: MuonClip) -> Iterator[list[UpdateMetrics]]:
    """Inside the block, measure the update of every step; costs an SVD for each matrix.

    ``with update_metrics(optimizer) as rows: optimizer.step()`` leaves a row for every block in ``rows``.
    """
    rows: list[UpdateMetrics] = []

    def look(parameter: str, block: str, update_KNM: Tensor, scale: float) -> None:
        rows.append(
            UpdateMetrics(
                parameter,
                block,
                rms=scale * float(update_KNM.square().mean().sqrt()),
                orthogonality_error=float(orthogonality_error(update_KNM).mean()),
                effective_rank=float(effective_rank(update_KNM).mean()),
            )
        )

    handle = optimizer.register_update_hook(look)
    try:
        yield rows
    finally:
        handle.remove()
