"""Between a bucket's bytes and the tensors of a rank: pack, unpack, checksum.

Buffers are one-dimensional uint8 tensors. A bucket's checksum is the sum of the 64-bit words of its pieces, modulo
2^64: any one damaged word is seen, and a word in the cache costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from openk2.engine.weights.parts import Box, Part, overlap
from openk2.engine.weights.plan import Bucket, Piece, torch_dtype

WORD = 8
# A CPU copies and then adds up so many bytes at a time, while they are in its cache: a fifth faster than one after
# the other over a whole bucket.
CACHED = 2**20
MODULUS = 2**64


class Tensors:
    """The parts of one rank, found by name."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._by_name: dict[str, list[Part]] = {}
        for part in parts:
            self._by_name.setdefault(part.name, []).append(part)

    def want(self, bucket: Bucket) -> bool:
        """Whether any number of the bucket is one of ours."""
        return any(True for piece in bucket.pieces for _ in self._wanting(piece))

    @torch.no_grad()
    def fill(self, bucket: Bucket, buffer: Tensor) -> int:
        """Copy the bucket's pieces out of the tensors into ``buffer``; returns the checksum."""
        return sum(self._fill(piece, bytes_of(piece, buffer)) for piece in bucket.pieces) % MODULUS

    @torch.no_grad()
    def load(self, bucket: Bucket, buffer: Tensor) -> int:
        """Copy what these tensors want of the bucket out of ``buffer``; returns the checksum of all of it.

        Values are cast to a tensor's own dtype.
        """
        return sum(self._load(piece, bytes_of(piece, buffer)) for piece in bucket.pieces) % MODULUS

    def bytes_of(self, bucket: Bucket, device: torch.device) -> Tensor | None:
        """The bucket's bytes where they lie: when it is one stretch of one of these tensors, on ``device``."""
        first, *more = bucket.pieces
        for part, common in () if more else self._wanting(first):
            stretch = _stretch(part, common, first)
            if stretch is not None and stretch.device == device:
                return stretch
        return None

    def _fill(self, piece: Piece, place: Tensor) -> int:
        part = next(part for part, common in self._wanting(piece) if common == piece.box)
        stretch = _stretch(part, piece.box, piece)
        if stretch is not None:
            return _copy_summed(place, stretch)
        numbers_of(piece, place).copy_(part.view(piece.box))
        return _sum(place)

    def _load(self, piece: Piece, place: Tensor) -> int:
        wanted = list(self._wanting(piece))
        if len(wanted) == 1:
            stretch = _stretch(*wanted[0], piece)
            if stretch is not None:
                return _copy_summed(stretch, place)
        for part, common in wanted:
            numbers = numbers_of(piece, place)
            for dim, ((start, stop), (origin, _)) in enumerate(zip(common, piece.box, strict=True)):
                numbers = numbers.narrow(dim, start - origin, stop - start)
            part.view(common).copy_(numbers)
        return _sum(place)

    def _wanting(self, piece: Piece) -> Iterator[tuple[Part, Box]]:
        """The parts that have something of the piece, and what."""
        for part in self._by_name.get(piece.name, ()):
            common = overlap(piece.box, part.box)
            if common is not None:
                yield part, common


def bytes_of(piece: Piece, buffer: Tensor) -> Tensor:
    """The piece's bytes inside its bucket's."""
    return buffer[piece.offset : piece.offset + piece.nbytes]


def numbers_of(piece: Piece, place: Tensor) -> Tensor:
    """Its bytes as the numbers they are."""
    return place.view(torch_dtype(piece.dtype)).view([stop - start for start, stop in piece.box])


def checksum(bucket: Bucket, buffer: Tensor) -> int:
    """The sum of the pieces' words."""
    return sum(_sum(bytes_of(piece, buffer)) for piece in bucket.pieces) % MODULUS


def damaged(bucket: Bucket) -> ValueError:
    """What to raise when checksums differ."""
    return ValueError(f"bucket {bucket.number} ({bucket.pieces[0].name}, …) is damaged: its checksum differs")


def _stretch(part: Part, common: Box, piece: Piece) -> Tensor | None:
    """The whole piece's bytes in the part's tensor, where they are in order there."""
    if common != piece.box or part.tensor.dtype != torch_dtype(piece.dtype):
        return None
    view = part.view(common)
    in_order = view.is_contiguous() and view.storage_offset() * view.itemsize % WORD == 0
    return view.flatten().view(torch.uint8) if in_order else None


def _copy_summed(to: Tensor, source: Tensor) -> int:
    """Copy bytes; returns the sum of their words."""
    if to.device.type != "cpu" or source.device.type != "cpu":
        to.copy_(source)
        return _sum(source)
    total = 0
    for into, out_of in zip(to.split(CACHED), source.split(CACHED), strict=True):
        into.copy_(out_of)
        total += _sum(out_of)
    return total


def _sum(place: Tensor) -> int:
    words = place.numel() // WORD * WORD
    total = int(place[:words].view(torch.int64).sum()) if words else 0
    return total + (int(place[words:].sum()) if words < place.numel() else 0)
