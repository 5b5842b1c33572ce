"""Which rows of a weight are orthogonalised together.

Fused storage holds several matrices in one weight: gate and up; K and V of every head. A ``Block`` names one of
them. Shapes: ``...`` leading dimensions (experts), O output rows, I inputs, H heads, R rows of a block in a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from openk2.optim.config import Split


class Layout(Protocol):
    """What a parameter says of itself in its attribute ``published``; any object with these attributes will do.

    ``role`` is one of matrix, experts, embedding, head, norm, router, bias. ``pieces`` names the row blocks
    of the output dimension with their rows per head; order is head-major: all pieces of head 0, then of head 1.
    """

    @property
    def role(self) -> str:
        """What the parameter is for."""

    @property
    def heads(self) -> int:
        """How many heads share the output rows."""

    @property
    def pieces(self) -> tuple[tuple[str, int], ...]:
        """(name, rows per head) of what is stored in one head; empty: one thing."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows ``start`` to ``stop`` of each of ``heads`` heads: one matrix, or with ``apart`` one for each head."""

    name: str
    heads: int
    start: int
    stop: int
    apart: bool

    def view(self, x: Tensor) -> Tensor:
        """``x [..., O, I]`` gives its block, live, as ``[..., H, R, I]``."""
        per_head = torch.unflatten(x, -2, (self.heads, -1))
        return per_head[..., self.start : self.stop, :]

    def each(self, x: Tensor) -> Tensor:
        """``x [..., O, I]``, contiguous, gives the block's matrices, live, as ``[K, H, R, I]``: N = H·R, see below."""
        heads = 1 if self.apart else self.heads
        return self.view(x).view(-1, heads, self.stop - self.start, x.shape[-1])

    def matrices(self, x: Tensor) -> Tensor:
        """``x [..., O, I]`` gives the block's matrices ``[K, N, I]``: K over leading dimensions and heads apart."""
        rows = self.stop - self.start
        return self.view(x).reshape(-1, rows if self.apart else self.heads * rows, x.shape[-1])


def blocks(layout: Layout, num_rows: int, split: Split) -> tuple[Block, ...]:
    """The blocks of a weight with ``num_rows`` output rows; each row is in exactly one.

    Raises ValueError where the layout does not fill the rows.
    """
    pieces = layout.pieces or (("", num_rows // layout.heads),)
    told = layout.heads * sum(rows for _, rows in pieces)
    if told != num_rows or any(rows < 1 for _, rows in pieces):
        raise ValueError(
            f"the layout tells of {layout.heads} heads with pieces {pieces}, the weight has {num_rows} rows"
        )
    if split == "matrix":
        return (Block("", 1, 0, num_rows, False),)
    found = []
    start = 0
    for name, rows in pieces:
        found.append(Block(name, layout.heads, start, start + rows, split == "head"))
        start += rows
    return tuple(found)
