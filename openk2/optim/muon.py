"""Muon's update on lists of tensors, in three parts: momentum, orthogonalisation, weights (K2 §2.1).

The parts stand apart because under sharding they see different tensors: momentum and weights go element by element,
as they are stored; orthogonalisation wants whole matrices. Shapes: K stacked matrices of N rows and M columns.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from openk2.optim.config import Scale
from openk2.optim.newton_schulz import newton_schulz

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def advance(group: dict[str, Any], momenta: list[Tensor], gradients: list[Tensor]) -> Sequence[Tensor]:
    """Move the momenta on; what is to be orthogonalised, element by element as they are stored."""
    torch._foreach_mul_(momenta, group["momentum"])
    torch._foreach_add_(momenta, gradients)
    return torch._foreach_add(gradients, momenta, alpha=group["momentum"]) if group["nesterov"] else momenta


def orthogonal_updates(group: dict[str, Any], matrices: Sequence[Tensor]) -> list[Tensor]:
    """The update at lr 1 for each stack ``[K, N, M]``. Matrices of one shape go through Newton-Schulz together."""
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for number, matrices_KNM in enumerate(matrices):
        by_shape[matrices_KNM.shape[1:]].append(number)
    updates = list(matrices)
    for shape, members in by_shape.items():
        update_KNM = newton_schulz(
            torch.cat([matrices[number] for number in members]),
            table=group["newton_schulz"],
            steps=group["newton_schulz_steps"],
            dtype=DTYPES[group["newton_schulz_dtype"]],
        ).float()
        update_KNM *= scale_of(group["scale"], group["update_rms"], shape)
        parts = torch.split(update_KNM, [len(matrices[number]) for number in members])
        for number, part in zip(members, parts, strict=True):
            updates[number] = part
    return updates


def apply_updates(group: dict[str, Any], weights: list[Tensor], updates: list[Tensor]) -> None:
    """Decay the weights and subtract the updates, both times the learning rate. Each weight is a live view."""
    updates = [update.view(weight.shape) for weight, update in zip(weights, updates, strict=True)]
    decay = group["lr"] * group["weight_decay"]
    if group["cautious"]:
        for weight, update in zip(weights, updates, strict=True):
            weight.addcmul_(weight, (weight * update >= 0).to(weight.dtype), value=-decay)
    else:
        torch._foreach_mul_(weights, 1 - decay)
    torch._foreach_add_(weights, updates, alpha=-group["lr"])


def scale_of(rule: Scale, update_rms: float, shape: torch.Size) -> float:
    """The factor on an update with singular values 1."""
    rows, columns = shape
    if rule == "match_rms_adamw":
        return update_rms * math.sqrt(max(rows, columns))
    ratio = rows / columns
    return math.sqrt(ratio if rule == "spectral" else max(1.0, ratio))
