"""Which part of a full parameter a tensor holds: the one word of trainers and replicas alike."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import SupportsIndex

import torch
from torch import Tensor

# An index as in ``full[at]``: a number drops its dimension, a slice (without step) keeps it.
Index = tuple[SupportsIndex | slice, ...]
# (start, stop) in every dimension of the full parameter.
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """``tensor[where]`` is ``full[at]`` of the full parameter ``name``.

    A trainer's parts say where weights come from, a replica's where they go; whatever both do not cut alike is
    re-cut on the way. An expert's gate in a tensor of its own, out of a stack of fused gate|up:
    ``Part("experts.gate_up", gate, shape=(E, 2 * F, D), at=(3, slice(0, F)))``.

    Raises ValueError when the two regions have different shapes, or reach outside.
    """

    name: str
    tensor: Tensor
    shape: tuple[int, ...]  # of the full parameter
    at: Index = ()
    where: Index = ()

    def __post_init__(self) -> None:
        held = tuple(stop - start for start, stop in box_of(self.name, self.shape, self.at, keep_numbers=False))
        inside = box_of(self.name, tuple(self.tensor.shape), self.where, keep_numbers=False)
        region = tuple(stop - start for start, stop in inside)
        if held != region:
            raise ValueError(f"{self.name}: the part at {self.at} has shape {held}, its tensor's region {region}")

    @property
    def box(self) -> Box:
        """What of the full parameter is held."""
        return box_of(self.name, self.shape, self.at)

    def view(self, cut: Box) -> Tensor:
        """The live view on ``cut`` (inside ``box``, in coordinates of the full parameter), all dimensions kept."""
        region = self.tensor.detach()[self.where]
        kept = region.view([stop - start for start, stop in self.box])
        for dim, ((start, stop), (origin, _)) in enumerate(zip(cut, self.box, strict=True)):
            kept = kept.narrow(dim, start - origin, stop - start)
        return kept

    def into(self, tensor: Tensor) -> Part:
        """The same part of another tensor of the same shape."""
        return replace(self, tensor=tensor)


def whole(tensors: Mapping[str, Tensor]) -> list[Part]:
    """Parts that are full parameters: of a rank that holds a model undivided, or a pipeline stage's layers."""
    return [Part(name, tensor, tuple(tensor.shape)) for name, tensor in tensors.items()]


def shard(name: str, tensor: Tensor, rank: int, ranks: int, dim: int = 0) -> Part:
    """The ``rank``-th of ``ranks`` equal parts along ``dim``: tensor or expert parallelism, FSDP."""
    shape = list(tensor.shape)
    width, shape[dim] = shape[dim], shape[dim] * ranks
    at = (*(slice(None) for _ in range(dim)), slice(rank * width, (rank + 1) * width))
    return Part(name, tensor, tuple(shape), at)


def box_of(name: str, shape: tuple[int, ...], index: Index, *, keep_numbers: bool = True) -> Box:
    """The region that ``index`` cuts out of ``shape``; without ``keep_numbers``, numbered dimensions are dropped."""
    if len(index) > len(shape):
        raise ValueError(f"{name}: the index {index} has more dimensions than the shape {shape}")
    box: list[tuple[int, int]] = []
    for dim, size in enumerate(shape):
        entry = index[dim] if dim < len(index) else slice(None)
        start, stop = _range(name, entry, size)
        # All of a dimension without elements is a part of it.
        if not (0 <= start < stop <= size or start == stop == size == 0):
            raise ValueError(f"{name}: {start}:{stop} is no part of dimension {dim}, which has {size}")
        if keep_numbers or isinstance(entry, slice):
            box.append((start, stop))
    return tuple(box)


def _range(name: str, entry: SupportsIndex | slice, size: int) -> tuple[int, int]:
    try:
        if isinstance(entry, bool):
            raise TypeError  # a mask to torch
        if not isinstance(entry, slice):
            start = operator.index(entry)
            return start, start + 1
        start, stop, step = (
            default if value is None else operator.index(value)
            for value, default in ((entry.start, 0), (entry.stop, size), (entry.step, 1))
        )
    except TypeError:
        raise ValueError(f"{name}: an index is whole numbers and slices of them, got {entry!r}") from None
    if step != 1:
        raise ValueError(f"{name}: slices have no step, got {entry}")
    return start, stop


def overlap(one: Box, other: Box) -> Box | None:
    """What two boxes have in common."""
    common = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    return common if all(start < stop for start, stop in common) else None


def first_overlap(boxes: Iterable[tuple[Box, str]]) -> tuple[tuple[Box, str], tuple[Box, str]] | None:
    """The first two boxes, with their names, that have something in common; if any have."""
    # Sorted, only boxes that share a stretch of the first dimension can.
    ordered = sorted(boxes)
    for number, (box, name) in enumerate(ordered):
        for other, its_name in ordered[number + 1 :]:
            if box and other[0][0] >= box[0][1]:
                break
            if overlap(box, other) is not None:
                return (box, name), (other, its_name)
    return None


def volume(box: Box) -> int:
    """How many numbers are in it."""
    return math.prod(stop - start for start, stop in box)


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")
