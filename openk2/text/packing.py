"""Put token sequences of any length side by side into rows of one length.

``doc_ids`` keeps neighbours apart: attention goes only between equal ids of a row. Padding has doc id −1:
it sees padding alone, and nothing real sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np

Key = TypeVar("Key")
PADDING = -1


@dataclass(slots=True)
class Rows:
    """Packed rows, ready for a model.

    N rows of T tokens. ``loss_mask`` marks tokens to be predicted (from the position before them). It is off
    on padding and on the first token of every sequence, which has no predecessor: shifting by one needs no
    further care.
    """

    tokens: np.ndarray  # [N, T] int64
    loss_mask: np.ndarray  # [N, T] bool
    doc_ids: np.ndarray  # [N, T] int64: the number of the sequence a token belongs to, PADDING outside
    positions: np.ndarray  # [N, T] int64: from 0 in every sequence; 0 on padding


@dataclass(slots=True)
class Packed(Rows):
    """What ``pack`` made, and how many sequences were too long."""

    num_overlong: int


class FirstFit(Generic[Key]):
    """First fit over a bounded number of open rows: where each sequence goes, by its length alone.

    A sequence goes into the oldest open row with room. Where none has room, a new row opens; where
    ``max_open`` are open, the fullest (then oldest) closes first. ``open_rows`` holds the sequences of
    every open row as (key, length): whoever saves it can begin again from there.
    """

    def __init__(
        self, row_length: int, max_open: int = 32, open_rows: Iterable[Iterable[tuple[Key, int]]] = ()
    ) -> None:
        if row_length < 2:
            raise ValueError(f"row_length must be at least 2, got {row_length}")
        self.row_length = row_length
        self.max_open = max_open
        self.open_rows = [list(row) for row in open_rows]
        self._used = [sum(length for _, length in row) for row in self.open_rows]

    def add(self, key: Key, length: int) -> list[list[Key]]:
        """Place a sequence; gives the rows this closed, each as the keys in it."""
        assert 0 < length <= self.row_length, f"a sequence of {length} in rows of {self.row_length}"
        closed = []
        place = next((i for i, used in enumerate(self._used) if used + length <= self.row_length), None)
        if place is None:
            if len(self.open_rows) == self.max_open:
                closed.append(self._close(self._used.index(max(self._used))))
            self.open_rows.append([])
            self._used.append(0)
            place = len(self.open_rows) - 1
        self.open_rows[place].append((key, length))
        self._used[place] += length
        if self._used[place] == self.row_length:
            closed.append(self._close(place))
        return closed

    def finish(self) -> list[list[Key]]:
        """Close all rows, oldest first."""
        return [self._close(0) for _ in range(len(self.open_rows))]

    def _close(self, index: int) -> list[Key]:
        del self._used[index]
        return [key for key, _ in self.open_rows.pop(index)]


def pack(
    sequences: Iterable[tuple[Sequence[int], Sequence[bool]]],
    row_length: int,
    *,
    pad_id: int,
    overlong: Literal["cut", "drop"],
    max_open: int = 32,
) -> Packed:
    """Pack (token ids, loss mask) pairs into rows of ``row_length``.

    ``doc_ids`` are the sequences' numbers in the order given. Sequences longer than a row are cut to their
    first ``row_length`` tokens or dropped, and counted. Empty ones take no place. Raises ValueError when a
    loss mask and its tokens differ in length.
    """
    kept: dict[int, tuple[Sequence[int], Sequence[bool]]] = {}
    rows: list[list[int]] = []
    num_overlong = 0
    layout: FirstFit[int] = FirstFit(row_length, max_open)
    for number, (token_ids, loss_mask) in enumerate(sequences):
        if len(token_ids) != len(loss_mask):
            raise ValueError(f"sequence {number}: {len(token_ids)} tokens but a loss mask of {len(loss_mask)}")
        if len(token_ids) > row_length:
            num_overlong += 1
            if overlong == "drop":
                continue
        if len(token_ids) == 0:
            continue
        kept[number] = (token_ids[:row_length], loss_mask[:row_length])
        rows += layout.add(number, len(kept[number][0]))
    rows += layout.finish()
    filled = fill(([(number, *kept[number]) for number in row] for row in rows), len(rows), row_length, pad_id)
    return Packed(filled.tokens, filled.loss_mask, filled.doc_ids, filled.positions, num_overlong)


def fill(
    rows: Iterable[Iterable[tuple[int, Sequence[int] | np.ndarray, Sequence[bool] | np.ndarray]]],
    num_rows: int,
    row_length: int,
    pad_id: int,
) -> Rows:
    """Write rows of (doc id, token ids, loss mask) into arrays [num_rows, row_length]."""
    shape = (num_rows, row_length)
    out = Rows(np.full(shape, pad_id, np.int64), np.zeros(shape, bool), np.full(shape, PADDING), np.zeros(shape, int))
    for row, sequences in enumerate(rows):
        start = 0
        for doc_id, token_ids, loss_mask in sequences:
            stop = start + len(token_ids)
            out.tokens[row, start:stop] = token_ids
            out.loss_mask[row, start:stop] = loss_mask
            out.loss_mask[row, start] = False
            out.doc_ids[row, start:stop] = doc_id
            out.positions[row, start:stop] = np.arange(stop - start)
            start = stop
    return out
