"""Weights cut by rows over ranks (DTensor): the local part, and whole matrices at one rank while it needs them.

Shapes: N rows of a matrix, I columns; L local rows of a weight; K = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

from openk2.optim.blocks import Block
from openk2.optim.owners import assign, cost

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_dtensor(x: Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is spread over a mesh of ranks."""
    # Not isinstance: the import takes a second, and whoever has a DTensor has done it.
    return hasattr(x, "device_mesh")


def local(x: Tensor) -> Tensor:
    """What of a tensor lies on this rank, live; a plain tensor is all here."""
    return x.to_local() if is_dtensor(x) else x


def shard_dim(x: Tensor) -> int | None:
    """The mesh dimension that cuts ``x`` along its dimension 0, or None where every rank has all of it.

    Raises ValueError for any other way to cut; the message wants the parameter's name in front.
    """
    if not is_dtensor(x):
        return None
    cut = [number for number, placement in enumerate(x.placements) if not placement.is_replicate()]
    if len(cut) > 1 or (cut and not x.placements[cut[0]].is_shard(0)):
        raise ValueError(f"is placed {x.placements}: MuonClip wants Shard(0) once, and Replicate")
    return cut[0] if cut else None


def local_rows(x: Tensor) -> slice:
    """Which of the entries along dimension 0 lie on this rank; DTensor cuts as torch.chunk does."""
    dim = shard_dim(x)
    if dim is None:
        return slice(0, len(x))
    assert is_dtensor(x)
    size, rank = x.device_mesh.size(dim), x.device_mesh.get_local_rank(dim)
    chunk = -(-len(x) // size)
    return slice(min(len(x), rank * chunk), min(len(x), (rank + 1) * chunk))


def cuts_matrices(x: Tensor) -> bool:
    """Whether a matrix of ``x`` has its rows on several ranks. A stack cut over experts has not."""
    return x.ndim == 2 and shard_dim(x) is not None


@dataclass(frozen=True, slots=True)
class _Cut:
    """One matrix of parameter number ``weight``: its rows that lie here, and how many elements each rank has."""

    weight: int
    rows_N: Tensor
    shape: tuple[int, int]
    elements: list[int]


class RowExchange:
    """Takes the rows of matrices to one rank each, whole, and back: two all-to-alls.

    Every rank of the mesh must construct it, and call it, with the same parameters.
    """

    def __init__(self, weights: Sequence[Tensor], pieces: Sequence[tuple[Block, ...]], steps: int) -> None:
        """``weights`` are DTensors ``[O, I]`` on one mesh, ``pieces`` the blocks of each."""
        groups = {weight.device_mesh.get_group(shard_dim(weight)) for weight in weights if is_dtensor(weight)}
        if len(groups) != 1:
            raise ValueError(f"weights of one parameter group are cut over {len(groups)} meshes: give each its own")
        self._group = groups.pop()
        size, rank = dist.get_world_size(self._group), dist.get_rank(self._group)
        self._shapes = [local(weight).shape for weight in weights]
        self._device = weights[0].device
        cuts = []
        for number, weight in enumerate(weights):
            chunk = -(-len(weight) // size)
            for block in pieces[number]:
                # The blocks of a column of row numbers say which rows make a matrix.
                for rows_N in block.matrices(torch.arange(len(weight))[:, None]).squeeze(-1):
                    rank_N = rows_N // chunk
                    elements = (torch.bincount(rank_N, minlength=size) * weight.shape[1]).tolist()
                    rows_here = (rows_N[rank_N == rank] - rank * chunk).to(self._device)
                    cuts.append(_Cut(number, rows_here, (len(rows_N), weight.shape[1]), elements))
        owners = assign([cost(*cut.shape, steps) for cut in cuts], size)
        # In the order of owners: what goes to rank 0, to rank 1, ...
        self._by_owner = [[cut for cut, owner in zip(cuts, owners, strict=True) if owner == r] for r in range(size)]
        self._mine = self._by_owner[rank]
        self._away = [sum(cut.elements[rank] for cut in owned) for owned in self._by_owner]
        self._here = [sum(cut.elements[r] for cut in self._mine) for r in range(size)]

    def gather(self, x: Sequence[Tensor]) -> list[Tensor]:
        """From the local part ``[L, I]`` for each weight, this rank's own matrices whole: each ``[1, N, I]``."""
        parts = [x[cut.weight][cut.rows_N].flatten() for owned in self._by_owner for cut in owned]
        received = self._send(torch.cat(parts), self._away, self._here)
        # A rank's rows come before the next one's in the weight, so also in every matrix.
        sizes = [cut.elements[r] for r in range(len(self._here)) for cut in self._mine]
        chunks = torch.split(received, sizes)
        return [
            torch.cat(chunks[number :: len(self._mine)]).view(1, *cut.shape) for number, cut in enumerate(self._mine)
        ]

    def scatter(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """From this rank's own matrices, in the order of ``gather``, the local part ``[L, I]`` for each weight."""
        chunks = [torch.split(x.flatten(), cut.elements) for x, cut in zip(matrices, self._mine, strict=True)]
        parts = [chunk[r] for r in range(len(self._here)) for chunk in chunks]
        received = self._send(torch.cat(parts or [torch.empty(0, device=self._device)]), self._here, self._away)
        rank = dist.get_rank(self._group)
        cuts = [cut for owned in self._by_owner for cut in owned]
        out = [torch.empty(shape, device=self._device) for shape in self._shapes]
        for cut, part in zip(cuts, torch.split(received, [cut.elements[rank] for cut in cuts]), strict=True):
            out[cut.weight][cut.rows_N] = part.view(-1, cut.shape[1])
        return out

    def _send(self, x: Tensor, to: list[int], from_: list[int]) -> Tensor:
        received = x.new_empty(sum(from_))
        dist.all_to_all_single(received, x, from_, to, group=self._group)
        return received
