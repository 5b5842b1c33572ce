"""Released FP8 weights: e4m3 numbers with one float32 factor for each 128 x 128 block.

Shapes: N rows, M columns, n = ceil(N/128), m = ceil(M/128).
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128


def dequantize_blocks(weight_NM: Tensor, scale_inv_nm: Tensor) -> Tensor:
    """Float32 weights [N, M]: each block times its factor (which multiplies, for all that it is named inverse).

    Raises ValueError when there is not one factor for each block.
    """
    rows, columns = weight_NM.shape
    blocks = (-(-rows // BLOCK), -(-columns // BLOCK))
    if tuple(scale_inv_nm.shape) != blocks:
        raise ValueError(f"a {rows} x {columns} FP8 weight needs {blocks} scales, got {tuple(scale_inv_nm.shape)}")
    scale_nM = scale_inv_nm.float().repeat_interleave(BLOCK, dim=1)[:, :columns]
    full_NM = weight_NM.to(torch.float32)
    for row_of_blocks, chunk in enumerate(full_NM.split(BLOCK)):
        chunk.mul_(scale_nM[row_of_blocks])
    return full_NM
