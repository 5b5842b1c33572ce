"""Orthogonalisation: the nearest matrix whose singular values are all 1, fast and about, or slowly and exactly.

Shapes: N rows, M columns, ``...`` any leading dimensions (a stack of matrices).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024: x ← a·x + b·x³ + c·x⁵.
# The slope at zero is as steep as can be, at the price of singular values that end near 1, not at 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# A batch that stays in a core's cache is up to 1.5 times faster; an accelerator wants few, large launches.
CPU_BATCH_ELEMENTS = 2**17
DEVICE_BATCH_ELEMENTS = 2**26


def newton_schulz(x: Tensor, *, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """About U·Vᵀ for each x = U·Σ·Vᵀ: quintic Newton-Schulz (K2 §2.1).

    ``x [..., N, M]`` gives ``[..., N, M]`` in ``dtype``. Singular values end in a band around 1, published as
    0.5 to 1.5; five steps take every σ ≥ 2e-3·‖x‖ into [0.68, 1.21], smaller ones less far. Zero stays zero.
    """
    num_rows, num_columns = x.shape[-2:]
    stack_KNM = x.reshape(-1, num_rows, num_columns)
    limit = CPU_BATCH_ELEMENTS if x.device.type == "cpu" else DEVICE_BATCH_ELEMENTS
    batches = torch.split(stack_KNM, max(1, limit // (num_rows * num_columns)))
    return torch.cat([_iterate(batch_KNM, steps, dtype) for batch_KNM in batches]).view(x.shape)


def _iterate(x_KNM: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    a, b, c = COEFFICIENTS
    tall = x_KNM.shape[-2] > x_KNM.shape[-1]
    y = x_KNM.mT if tall else x_KNM
    # The Frobenius norm bounds the spectral norm. It is taken before rounding to a short dtype.
    y = (y / y.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).to(dtype)
    for _ in range(steps):
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.mT if tall else y


def orthogonalize_svd(x: Tensor) -> Tensor:
    """Exactly U·Vᵀ for each x = U·Σ·Vᵀ of full rank, in float64: the plain twin of ``newton_schulz``."""
    u, _, vt = torch.linalg.svd(x.double(), full_matrices=False)
    product: Tensor = u @ vt
    return product
