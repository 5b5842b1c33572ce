"""Orthogonalisation: the nearest matrix whose singular values are all 1, fast and about, or slowly and exactly.

Shapes: N rows, M columns, N ≤ M after transposing; K matrices of a batch; ``...`` any leading dimensions (a stack).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from openk2.optim.coefficients import Polynomial, Table, polynomials

Form = Literal["standard", "gram"]
_Iterate = Callable[[Tensor, Sequence[Polynomial]], Tensor]

# A batch that stays in a core's cache is up to 1.5 times faster; an accelerator wants few, large launches.
CPU_BATCH_ELEMENTS = 2**17
DEVICE_BATCH_ELEMENTS = 2**26
# The Gram form squares small singular values; after so many iterations it starts again from the matrix itself.
GRAM_RESTART = 2


def newton_schulz(
    x: Tensor, *, table: Table = "quintic", steps: int = 5, dtype: torch.dtype = torch.float32, form: Form | None = None
) -> Tensor:
    """About U·Vᵀ for each x = U·Σ·Vᵀ (K2 §2.1).

    ``x [..., N, M]`` gives ``[..., N, M]`` in ``dtype``. Five steps take the singular values of x/‖x‖ (Frobenius)
    into [0.68, 1.21] from 2e-3 on by ``quintic``, into [0.85, 1.15] from 2e-3 on by ``you``, into [0.85, 1.13] from
    1e-3 on by ``polar_express``; smaller ones less far. Zero stays zero. ``form`` by default is the one with fewer
    operations for the shape; the standard one in a short dtype, where squaring the Gram matrix costs digits.
    """
    num_rows, num_columns = x.shape[-2:]
    stack_KNM = x.reshape(-1, num_rows, num_columns)
    limit = CPU_BATCH_ELEMENTS if x.device.type == "cpu" else DEVICE_BATCH_ELEMENTS
    if form is None:
        form = cheaper_form(num_rows, num_columns, steps) if dtype.itemsize > 2 else "standard"
    iterate = _gram if form == "gram" else _standard
    batches = torch.split(stack_KNM, max(1, limit // (num_rows * num_columns)))
    sequence = polynomials(table, steps)
    return torch.cat([_wide(batch_KNM, iterate, sequence, dtype) for batch_KNM in batches]).view(x.shape)


def products(num_rows: int, num_columns: int, steps: int, form: Form) -> int:
    """Multiplications and additions (2 each) of the matrix products for one matrix."""
    n, m = sorted((num_rows, num_columns))
    if form == "standard":
        return steps * (2 * n * n * m + 2 * n**3 + 2 * n * n * m)
    starts = 1 if steps <= GRAM_RESTART else 2
    # Every iteration squares the Gram matrix; all but the first after a start extend the product of the polynomials;
    # all but the last before an end move the Gram matrix on.
    return starts * (4 * n * n * m) + 2 * n**3 * (steps + (steps - starts) + 2 * (steps - starts))


def cheaper_form(num_rows: int, num_columns: int, steps: int) -> Form:
    """The form with fewer operations: gram for matrices about twice as wide as high, or more."""
    standard, gram = (products(num_rows, num_columns, steps, form) for form in ("standard", "gram"))
    return "gram" if gram < standard else "standard"


def _wide(x_KNM: Tensor, iterate: _Iterate, sequence: Sequence[Polynomial], dtype: torch.dtype) -> Tensor:
    tall = x_KNM.shape[-2] > x_KNM.shape[-1]
    y_KNM = x_KNM.mT if tall else x_KNM
    # The Frobenius norm bounds the spectral norm. It is taken before rounding to a short dtype.
    y_KNM = (y_KNM / y_KNM.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).to(dtype)
    y_KNM = iterate(y_KNM, sequence)
    return y_KNM.mT if tall else y_KNM


def _standard(y_KNM: Tensor, sequence: Sequence[Polynomial]) -> Tensor:
    for a, b, c in sequence:
        gram_KNN = y_KNM @ y_KNM.mT
        y_KNM = torch.baddbmm(y_KNM, torch.baddbmm(gram_KNN, gram_KNN, gram_KNN, beta=b, alpha=c), y_KNM, beta=a)
    return y_KNM


def _gram(y_KNM: Tensor, sequence: Sequence[Polynomial]) -> Tensor:
    """The same iterations on the small Gram matrix alone; the wide one is multiplied at the end of a stretch.

    Each polynomial is y ← P·y with P = a·I + b·R + c·R² of R = y·yᵀ, so R ← P·R·P, and the Ps multiply up
    (Dao-AILab, "Gram Newton-Schulz", 2026).
    """
    for stretch in (sequence[:GRAM_RESTART], sequence[GRAM_RESTART:]):
        if not stretch:
            break
        gram_KNN = y_KNM @ y_KNM.mT
        total_KNN: Tensor | None = None
        for number, (a, b, c) in enumerate(stretch, start=1):
            factor_KNN = torch.baddbmm(gram_KNN, gram_KNN, gram_KNN, beta=b, alpha=c)
            factor_KNN.diagonal(dim1=-2, dim2=-1).add_(a)
            total_KNN = factor_KNN if total_KNN is None else factor_KNN @ total_KNN
            if number < len(stretch):
                gram_KNN = factor_KNN @ gram_KNN @ factor_KNN
        assert total_KNN is not None
        y_KNM = total_KNN @ y_KNM
    return y_KNM


def orthogonalize_svd(x: Tensor) -> Tensor:
    """Exactly U·Vᵀ for each x = U·Σ·Vᵀ of full rank, in float64: the plain twin of ``newton_schulz``."""
    u, _, vt = torch.linalg.svd(x.double(), full_matrices=False)
    product: Tensor = u @ vt
    return product
