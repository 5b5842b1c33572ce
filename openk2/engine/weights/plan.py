"""In which buckets the full set of parameters travels, and who sends each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import torch

from openk2.engine.weights.parts import Box, Part, dtype_name, first_overlap, volume
from openk2.engine.weights.targets import check_disjoint

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Held:
    """What a trainer rank says of one of its parts."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    box: Box

    @classmethod
    def of(cls, part: Part) -> Held:
        """Of a part, without its tensor."""
        return cls(part.name, dtype_name(part.tensor.dtype), part.shape, part.box)


@dataclass(frozen=True, slots=True)
class Piece:
    """A box of a full parameter at ``offset`` bytes in a bucket; its numbers lie there in row-major order."""

    name: str
    dtype: str
    box: Box
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return volume(self.box) * _itemsize(self.dtype)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Pieces that travel together, from the rank that is their ``source``."""

    number: int
    source: int
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        """Bytes on the way."""
        return self.pieces[-1].offset + self.pieces[-1].nbytes


@dataclass(frozen=True, slots=True)
class Plan:
    """Every number of every full parameter, once, in the order of travel."""

    buckets: tuple[Bucket, ...]
    shapes: dict[str, tuple[int, ...]]

    @property
    def nbytes(self) -> int:
        """Bytes of all buckets."""
        return sum(bucket.nbytes for bucket in self.buckets)

    def check(self, targets: Sequence[Part]) -> None:
        """Raises ValueError naming a target that cannot be filled.

        No trainer has it, or in another shape; its dtype is of a lesser kind (integers for floats, floats for complex
        numbers); or another target fills the same place.
        """
        check_disjoint(targets)
        dtypes = {piece.name: torch_dtype(piece.dtype) for bucket in self.buckets for piece in bucket.pieces}
        for part in targets:
            if part.name not in self.shapes:
                raise ValueError(f"{part.name}: no trainer has such a parameter")
            if part.shape != self.shapes[part.name]:
                raise ValueError(f"{part.name}: here a part of {part.shape}, the trainers' is {self.shapes[part.name]}")
            # One without numbers is in no bucket.
            sent, kept = dtypes.get(part.name, part.tensor.dtype), part.tensor.dtype
            if not torch.can_cast(sent, kept):
                raise ValueError(f"{part.name}: the trainers' {dtype_name(sent)} does not fit in {dtype_name(kept)}")

    def to_json(self) -> str:
        """One line; ``from_json`` reads it back."""
        buckets = [
            [bucket.source, [[piece.name, piece.dtype, piece.box, piece.offset] for piece in bucket.pieces]]
            for bucket in self.buckets
        ]
        return json.dumps({"shapes": self.shapes, "buckets": buckets})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what ``to_json`` wrote."""
        value = json.loads(text)
        buckets = tuple(
            Bucket(number, source, tuple(Piece(name, dtype, _box(box), at) for name, dtype, box, at in pieces))
            for number, (source, pieces) in enumerate(value["buckets"])
        )
        return cls(buckets, {name: tuple(shape) for name, shape in value["shapes"].items()})


def held_to_json(parts: Sequence[Part]) -> str:
    """What a trainer rank tells the others of its parts."""
    told = [Held.of(part) for part in parts]
    return json.dumps([[held.name, held.dtype, held.shape, held.box] for held in told])


def held_from_json(text: str) -> list[Held]:
    """Read what ``held_to_json`` wrote."""
    return [Held(name, dtype, tuple(shape), _box(box)) for name, dtype, shape, box in json.loads(text)]


def make_plan(held: Sequence[Sequence[Held]], bucket_bytes: int) -> Plan:
    """Cut the full set into buckets.

    A part that several ranks hold alike (data parallelism) is sent by the one with least to send. Buckets of
    different ranks alternate, so that all copy to their devices at once.

    Args:
        held: the parts of each trainer rank.
        bucket_bytes: size of a bucket; a larger part is cut along its first dimensions.

    Raises:
        ValueError: naming a parameter whose parts differ in shape or dtype, overlap, or leave something out; or a
            ``bucket_bytes`` below one cache line.
    """
    if bucket_bytes < ALIGNMENT:
        raise ValueError(f"bucket_bytes must be at least {ALIGNMENT}, got {bucket_bytes}")
    senders: dict[Held, list[int]] = {}
    for rank, parts in enumerate(held):
        for part in parts:
            ranks = senders.setdefault(part, [])
            if rank not in ranks:
                ranks.append(rank)
    if not any(volume(part.box) for part in senders):
        raise ValueError("no trainer rank holds any parameter")
    shapes = _checked(senders)
    load = [0] * len(held)
    pieces: list[list[Piece]] = [[] for _ in held]
    for part, ranks in senders.items():
        if not volume(part.box):
            continue  # nothing to send
        source = min(ranks, key=lambda rank: (load[rank], rank))
        load[source] += volume(part.box) * _itemsize(part.dtype)
        pieces[source] += [Piece(part.name, part.dtype, cut, 0) for cut in _cuts(part, bucket_bytes)]
    packed = [list(_packed(own, bucket_bytes)) for own in pieces]
    in_turn = chain.from_iterable(zip_longest(*([(rank, own) for own in owns] for rank, owns in enumerate(packed))))
    ordered = [entry for entry in in_turn if entry is not None]
    buckets = tuple(Bucket(number, source, own) for number, (source, own) in enumerate(ordered))
    return Plan(buckets, shapes)


def _checked(parts: Iterable[Held]) -> dict[str, tuple[int, ...]]:
    """The full shapes; every parameter is one dtype and covered exactly once."""
    by_name: dict[str, list[Held]] = {}
    for part in parts:
        by_name.setdefault(part.name, []).append(part)
    for name, own in by_name.items():
        first = own[0]
        for part in own[1:]:
            if (part.shape, part.dtype) != (first.shape, first.dtype):
                here = f"{part.dtype} {part.shape}"
                raise ValueError(f"{name}: one rank has a part of {first.dtype} {first.shape}, another of {here}")
        _check_cover(name, [part.box for part in own], math.prod(first.shape))
    return {name: own[0].shape for name, own in by_name.items()}


def _check_cover(name: str, boxes: list[Box], size: int) -> None:
    twice = first_overlap((box, name) for box in boxes)
    if twice is not None:
        (box, _), (other, _) = twice
        raise ValueError(f"{name}: the parts at {box} and {other} overlap")
    covered = sum(volume(box) for box in boxes)
    if covered != size:
        raise ValueError(f"{name}: the trainers' parts hold {covered:,} of its {size:,} numbers")


def _cuts(part: Held, bucket_bytes: int) -> Iterator[Box]:
    """The part in boxes of at most ``bucket_bytes``, each contiguous in it."""
    yield from _cut(part.box, max(1, bucket_bytes // _itemsize(part.dtype)))


def _cut(box: Box, numbers: int) -> Iterator[Box]:
    if volume(box) <= numbers:
        yield box
        return
    dim = next(dim for dim, (start, stop) in enumerate(box) if stop - start > 1)
    (start, stop), inner = box[dim], volume(box[dim + 1 :])
    rows = max(1, numbers // inner)
    for row in range(start, stop, rows):
        yield from _cut((*box[:dim], (row, min(row + rows, stop)), *box[dim + 1 :]), numbers)


def _packed(pieces: Iterable[Piece], bucket_bytes: int) -> Iterator[tuple[Piece, ...]]:
    """Pieces with their offsets, as many in a bucket as fit."""
    bucket: list[Piece] = []
    filled = 0
    for piece in pieces:
        if bucket and filled + piece.nbytes > bucket_bytes:
            yield tuple(bucket)
            bucket, filled = [], 0
        bucket.append(Piece(piece.name, piece.dtype, piece.box, filled))
        filled = aligned(filled + piece.nbytes)
    if bucket:
        yield tuple(bucket)


def aligned(nbytes: int) -> int:
    """So many bytes, rounded up to a cache line."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _itemsize(dtype: str) -> int:
    return torch_dtype(dtype).itemsize


def torch_dtype(name: str) -> torch.dtype:
    """The dtype of a name that ``dtype_name`` gave. Raises ValueError for what is none."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is no dtype of torch")
    return dtype


def _box(value: Sequence[Sequence[int]]) -> Box:
    return tuple((start, stop) for start, stop in value)
