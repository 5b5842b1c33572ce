"""Between a bucket's bytes and the tensors of a rank: pack, unpack, checksum.

Buffers are one-dimensional uint8 tensors, on the device of their rank.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from openk2.engine.weights.parts import Part, overlap
from openk2.engine.weights.plan import Bucket, Piece, torch_dtype

# Bytes of what checksums add up.
WORD = 8


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

    def bytes_of(self, bucket: Bucket, device: torch.device) -> Tensor | None:
        """The bucket's bytes where they lie: when it is one stretch of one of these tensors, on ``device``."""
        first, *more = bucket.pieces
        for part in () if more else self._by_name.get(first.name, ()):
            if overlap(first.box, part.box) == first.box and part.tensor.dtype == torch_dtype(first.dtype):
                view = part.view(first.box)
                aligned = view.storage_offset() * view.itemsize % WORD == 0
                if view.is_contiguous() and aligned and view.device == device:
                    return view.flatten().view(torch.uint8)
        return None

    def _holding(self, piece: Piece) -> Part:
        for part in self._by_name.get(piece.name, ()):
            if overlap(piece.box, part.box) == piece.box:
                return part
        raise KeyError(f"{piece.name}: this rank does not hold {piece.box}")


def view_of(piece: Piece, buffer: Tensor) -> Tensor:
    """The piece inside a bucket's bytes."""
    numbers = buffer[piece.offset : piece.offset + piece.nbytes].view(torch_dtype(piece.dtype))
    return numbers.view([stop - start for start, stop in piece.box])


def checksum(buffer: Tensor) -> int:
    """The sum of all 64-bit words, modulo 2^64: any one damaged word is seen, and it runs at twice a copy's speed."""
    whole = buffer.numel() // WORD * WORD
    return int(buffer[:whole].view(torch.int64).sum() + buffer[whole:].sum())


def damaged(bucket: Bucket) -> ValueError:
    """What to raise when checksums differ."""
    return ValueError(f"bucket {bucket.number} ({bucket.pieces[0].name}, …) is damaged: its checksum differs")
