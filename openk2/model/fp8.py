"""Released FP8 weights: e4m3 numbers with one float32 factor for each 128 x 128 block.

Shapes: N rows, M columns, B rows of one block, n = ceil(N/128), m = ceil(M/128).
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128


def scale_shape(rows: int, columns: int) -> tuple[int, int]:
    """Shape of the factors of a weight: [n, m]."""
    return -(-rows // BLOCK), -(-columns // BLOCK)


def dequantize_blocks(weight_NM: Tensor, scale_inv_nm: Tensor) -> Tensor:
    """Float32 weights [N, M]: each block times its factor (which multiplies, for all that it is named inverse)."""
    rows, columns = weight_NM.shape
    assert tuple(scale_inv_nm.shape) == scale_shape(rows, columns)
    scale_nM = scale_inv_nm.float().repeat_interleave(BLOCK, dim=1)[:, :columns]
    full_NM = weight_NM.to(torch.float32)
    for chunk_BM, scale_M in zip(full_NM.split(BLOCK), scale_nM, strict=True):
        chunk_BM.mul_(scale_M)
    return full_NM
