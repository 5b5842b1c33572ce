"""Between a bucket's bytes and the tensors of a rank: pack, unpack, checksum.

Buffers are one-dimensional uint8 tensors, on the device of their rank.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from openk2.engine.weights.parts import Part, overlap
from openk2.engine.weights.plan import ALIGNMENT, Bucket, Piece, torch_dtype


class Tensors:
    """The parts of one rank, found by name."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._by_name: dict[str, list[Part]] = {}
        for part in parts:
            self._by_name.setdefault(part.name, []).append(part)

    def want(self, bucket: Bucket) -> bool:
        """Whether any number of the bucket is one of ours."""
        return any(
            overlap(piece.box, part.box) is not None
            for piece in bucket.pieces
            for part in self._by_name.get(piece.name, ())
        )

    @torch.no_grad()
    def fill(self, bucket: Bucket, buffer: Tensor) -> None:
        """Copy the bucket's pieces out of the tensors into ``buffer``."""
        for piece in bucket.pieces:
            view_of(piece, buffer).copy_(self._holding(piece).view(piece.box), non_blocking=True)

    @torch.no_grad()
    def load(self, bucket: Bucket, buffer: Tensor) -> None:
        """Copy what these tensors want of the bucket out of ``buffer``; values are cast to a tensor's own dtype."""
        for piece in bucket.pieces:
            for part in self._by_name.get(piece.name, ()):
                common = overlap(piece.box, part.box)
                if common is None:
                    continue
                wanted = view_of(piece, buffer)
                for dim, ((start, stop), (origin, _)) in enumerate(zip(common, piece.box, strict=True)):
                    wanted = wanted.narrow(dim, start - origin, stop - start)
                part.view(common).copy_(wanted, non_blocking=True)

    def _holding(self, piece: Piece) -> Part:
        for part in self._by_name.get(piece.name, ()):
            if overlap(piece.box, part.box) == piece.box:
                return part
        raise KeyError(f"{piece.name}: this rank does not hold {piece.box}")


def view_of(piece: Piece, buffer: Tensor) -> Tensor:
    """The piece inside a bucket's bytes."""
    numbers = buffer[piece.offset : piece.offset + piece.nbytes].view(torch_dtype(piece.dtype))
    return numbers.view([stop - start for start, stop in piece.box])


def checksum(words: Tensor) -> int:
    """The sum of all 64-bit words, modulo 2^64: any one damaged word is seen, and it runs at twice a copy's speed."""
    return int(words.view(torch.int64).sum())


def seal(buffer: Tensor, version: int) -> None:
    """Write checksum and version behind the bucket's bytes: into the last ``ALIGNMENT`` bytes of ``buffer``."""
    tail = buffer[-ALIGNMENT:].view(torch.int64)
    tail[0], tail[1] = checksum(buffer[:-ALIGNMENT]), version


def check_seal(bucket: Bucket, buffer: Tensor, version: int) -> None:
    """Raises ValueError when the bytes are not those that were sealed, or not of this version."""
    told, sealed = (int(word) for word in buffer[-ALIGNMENT:].view(torch.int64)[:2])
    if sealed != version:
        raise ValueError(f"bucket {bucket.number} is of version {sealed}, not {version}")
    if told != checksum(buffer[:-ALIGNMENT]):
        raise ValueError(f"bucket {bucket.number} ({bucket.pieces[0].name}, …) is damaged: its checksum differs")
