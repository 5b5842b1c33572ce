"""MuonClip with its work and its momentum shared among data-parallel ranks (ZeRO, arXiv 1910.02054, stage 1).

Shapes of a matrix as it is stored: H heads, R rows in each, I inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from openk2.optim.blocks import Block
from openk2.optim.muon import DTYPES, advance, apply_updates, orthogonal_updates
from openk2.optim.muonclip import MuonClip
from openk2.optim.owners import assign, cost
from openk2.optim.sharding import is_dtensor

# Weights that travel at once. The ones after them are computed meanwhile, so twice as many wait in buffers.
BUCKET_ELEMENTS = 2**26


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The ``index``-th matrix of a parameter's block; ``state`` names its momentum, ``owner`` is a rank of the group."""

    parameter: Tensor
    block: Block
    index: int
    state: str
    shape: torch.Size
    owner: int

    def of(self, x: Tensor) -> Tensor:
        """From a tensor of the parameter's shape, the matrix, live: ``[H, R, I]``."""
        return self.block.each(x)[self.index]


@dataclass(frozen=True, slots=True)
class _Parcel:
    """Weights of one owner on their way; all of one shape."""

    matrices: Sequence[_Matrix]
    buffer: Tensor
    work: dist.Work


class Zero1MuonClip(MuonClip):
    """MuonClip for weights that every rank of ``group`` has whole, and gradients averaged over it, as DDP leaves them.

    Each matrix belongs to one rank, chosen so that all have equal work: that rank alone keeps its momentum,
    orthogonalises it and sends the new weights to the others. AdamW's parameters are updated by every rank: they are
    a small part of such a model, and their update costs less than sending it. State: for each of the rank's own
    matrices ``momentum.0``, ``momentum.1``, ... by its place in the parameter, which does not depend on the number
    of ranks: torch.distributed.checkpoint loads it on any other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As MuonClip's."""
        self._shared: dict[tuple[Tensor, ...], list[_Matrix]] = {}
        super().__init__(*args, **kwargs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As MuonClip's. Raises RuntimeError without process group, ValueError for a DTensor."""
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError("Zero1MuonClip shares work among ranks: call torch.distributed.init_process_group first")
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if is_dtensor(parameter):
                self.param_groups.pop()
                name = self._rows[parameter].name
                raise ValueError(f"parameter {name} is a DTensor, whose work is shared already: use MuonClip")

    def _step_muon(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        given = set(parameters)
        matrices = [matrix for matrix in self._matrices(group) if matrix.parameter in given]
        on_the_way: list[_Parcel] = []
        for shape, alike in groupby(matrices, key=lambda matrix: matrix.shape):
            members = list(alike)
            most = max(1, BUCKET_ELEMENTS // shape.numel())
            for start in range(0, len(members), most):
                bucket = members[start : start + most]
                self._update(group, bucket)
                sent = self._send(bucket)
                _unpack(on_the_way)
                on_the_way = sent
        _unpack(on_the_way)

    def _update(self, group: dict[str, Any], bucket: Sequence[_Matrix]) -> None:
        """Update this rank's own matrices of a bucket."""
        own = [matrix for matrix in bucket if matrix.owner == dist.get_rank(self.group)]
        if not own:
            return
        dtype = DTYPES[group["momentum_dtype"]]
        momenta = [self._state(matrix.parameter, matrix.state, dtype, matrix.shape) for matrix in own]
        gradients = [
            matrix.of(matrix.parameter.grad.contiguous()) for matrix in own if matrix.parameter.grad is not None
        ]
        directions = [x_HRI.flatten(0, 1)[None] for x_HRI in advance(group, momenta, gradients)]
        updates = orthogonal_updates(group, directions)
        apply_updates(group, [matrix.of(matrix.parameter) for matrix in own], updates)

    def _send(self, bucket: Sequence[_Matrix]) -> list[_Parcel]:
        """Set the new weights of a bucket on their way from their owners to all."""
        parcels = []
        for owner in range(dist.get_world_size(self.group)):
            matrices = [matrix for matrix in bucket if matrix.owner == owner]
            if matrices:
                buffer = torch.cat([matrix.of(matrix.parameter).flatten() for matrix in matrices])
                work = dist.broadcast(buffer, group=self.group, group_src=owner, async_op=True)
                assert work is not None
                parcels.append(_Parcel(matrices, buffer, work))
        return parcels

    def _matrices(self, group: dict[str, Any]) -> list[_Matrix]:
        """The matrices of a group with their owners, those of one shape together."""
        parameters = tuple(group["params"])
        if parameters not in self._shared:
            found = []
            for parameter in parameters:
                stacks = [(block, block.each(parameter)) for block in self._rows[parameter].pieces]
                each = [(block, index, x_HRI.shape) for block, x in stacks for index, x_HRI in enumerate(x)]
                found += [(parameter, block, i, f"momentum.{n}", shape) for n, (block, i, shape) in enumerate(each)]
            costs = [cost(shape[0] * shape[1], shape[2], group["newton_schulz_steps"]) for *_, shape in found]
            owners = assign(costs, dist.get_world_size(self.group))
            matrices = [_Matrix(*facts, owner) for facts, owner in zip(found, owners, strict=True)]
            self._shared[parameters] = sorted(matrices, key=lambda matrix: matrix.shape)
        return self._shared[parameters]

    def _state_shape(self, parameter: Tensor, kind: str) -> torch.Size:
        if not kind.startswith("momentum"):
            return super()._state_shape(parameter, kind)
        group = next(group for group in self.param_groups if any(parameter is p for p in group["params"]))
        rank = dist.get_rank(self.group)
        for matrix in self._matrices(group):
            if (matrix.parameter is parameter) and (matrix.state, matrix.owner) == (kind, rank):
                return matrix.shape
        raise ValueError(
            f"{kind} of {self._rows[parameter].name} is not kept by rank {rank} of {dist.get_world_size(self.group)}: "
            "load a state of another number of ranks through torch.distributed.checkpoint"
        )


def _unpack(parcels: Sequence[_Parcel]) -> None:
    """Wait for weights and put them in their places."""
    for parcel in parcels:
        parcel.work.wait()
        parts = torch.split(parcel.buffer, parcel.matrices[0].shape.numel())
        for matrix, part in zip(parcel.matrices, parts, strict=True):
            matrix.of(matrix.parameter).copy_(part.view(matrix.shape))
