"""Packed batches from a token store: mixed by weight, shuffled, resumable at the exact token.

A document longer than a row is read as pieces that overlap by one token, so that every token is predicted
once. Memory: the maps, 8 bytes a document and 8 bytes a piece for the shuffled order; it does not grow as
the stream goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openk2.data.store import Documents, Split, open_documents, read_index, token_bytes
from openk2.text.packing import FirstFit, Rows, fill

_Piece = tuple[int, int]  # number of the source, number of the piece in it


class _Pieces:
    """A split of a source as numbered pieces of at most ``row_length`` tokens."""

    def __init__(self, documents: Documents, row_length: int) -> None:
        self._documents = documents
        self._row_length = row_length
        # A piece of T tokens predicts T − 1; a document of n tokens has n − 1 to predict.
        pieces_per_document = -(-(np.diff(documents.offsets) - 1) // (row_length - 1))
        self._first_piece = np.concatenate(([0], np.cumsum(pieces_per_document)))

    def __len__(self) -> int:
        return int(self._first_piece[-1])

    def span(self, piece: int) -> tuple[int, int]:
        """Where a piece lies in the token file: from, to."""
        document = int(np.searchsorted(self._first_piece, piece, side="right")) - 1
        offsets = self._documents.offsets
        start = int(offsets[document]) + (piece - int(self._first_piece[document])) * (self._row_length - 1)
        return start, min(start + self._row_length, int(offsets[document + 1]))

    def length(self, piece: int) -> int:
        start, stop = self.span(piece)
        return stop - start

    def read(self, piece: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and loss mask."""
        start, stop = self.span(piece)
        return self._documents.tokens[start:stop], self._documents.loss_mask[start:stop]


class TokenStream:
    """Endless batches [batch_rows, row_length] of a store's training split.

    Sources are mixed so that their tokens stand in the ratio of ``weights``; each is read in a new seeded
    order every epoch. ``doc_ids`` number the pieces of a batch. Raises ValueError for a source that the
    folder does not hold.
    """

    def __init__(self, folder: Path, *, row_length: int, batch_rows: int, seed: int, weights: Mapping[str, float]):
        self._names = sorted(weights)
        self._weights = [weights[name] for name in self._names]
        self._sources = _open(folder, self._names, "train", row_length)
        self._batch_rows, self._seed = batch_rows, seed
        self._pad_id: int = read_index(folder, self._names[0])["pad_id"]
        self._made_from = {
            "row_length": row_length,
            "batch_rows": batch_rows,
            "seed": seed,
            "weights": dict(weights),
            "corpus": {name: read_index(folder, name)["made_from"] for name in self._names},
        }
        self._num_taken = [0] * len(self._names)  # pieces, over all epochs
        self._num_tokens = [0] * len(self._names)
        self._orders: list[tuple[int, np.ndarray]] = [(-1, np.empty(0, np.int64))] * len(self._names)
        self._layout: FirstFit[_Piece] = FirstFit(row_length)
        self._closed: deque[list[_Piece]] = deque()
        self._last: list[list[_Piece]] = []

    def __iter__(self) -> Iterator[Rows]:
        return self

    def __next__(self) -> Rows:
        while len(self._closed) < self._batch_rows:
            piece = self._take()
            self._closed.extend(self._layout.add(piece, self._sources[piece[0]].length(piece[1])))
        self._last = [self._closed.popleft() for _ in range(self._batch_rows)]
        return _read(self._last, self._sources, self._layout.row_length, self._pad_id)

    def epochs(self) -> dict[str, float]:
        """How often each source has been read."""
        counts = zip(self._names, self._num_taken, self._sources, strict=True)
        return {name: taken / len(source) for name, taken, source in counts}

    def batch_ids(self) -> str:
        """The pieces of the last batch, by source."""
        pieces: dict[int, list[int]] = {}
        for number, piece in sorted(piece for row in self._last for piece in row):
            pieces.setdefault(number, []).append(piece)
        return "; ".join(f"{self._names[number]} {' '.join(map(str, ids))}" for number, ids in pieces.items())

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as plain JSON."""
        return {
            "made_from": self._made_from,
            "num_taken": list(self._num_taken),
            "num_tokens": list(self._num_tokens),
            "open_rows": [[[*piece, length] for piece, length in row] for row in self._layout.open_rows],
            "closed": [[list(piece) for piece in row] for row in self._closed],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken. Raises ValueError when it belongs to another stream."""
        different = [key for key, value in self._made_from.items() if state["made_from"].get(key) != value]
        if different:
            raise ValueError(f"the saved stream has another {' and '.join(different)} than this one")
        self._num_taken = list(state["num_taken"])
        self._num_tokens = list(state["num_tokens"])
        open_rows = [[((source, piece), length) for source, piece, length in row] for row in state["open_rows"]]
        self._layout = FirstFit(self._layout.row_length, open_rows=open_rows)
        self._closed = deque([(source, piece) for source, piece in row] for row in state["closed"])

    def _take(self) -> _Piece:
        """The next piece of the source that lags most behind its share."""
        number = min(range(len(self._names)), key=lambda each: self._num_tokens[each] / self._weights[each])
        source = self._sources[number]
        epoch, position = divmod(self._num_taken[number], len(source))
        if self._orders[number][0] != epoch:
            order = np.random.default_rng([self._seed, number, epoch]).permutation(len(source))
            self._orders[number] = (epoch, order)
        piece = int(self._orders[number][1][position])
        self._num_taken[number] += 1
        self._num_tokens[number] += source.length(piece)
        return number, piece


def heldout_batches(
    folder: Path, sources: Sequence[str], *, row_length: int, batch_rows: int
) -> Iterator[tuple[Rows, int]]:
    """One ordered pass over the held-out documents of ``sources``: batches, and the bytes their loss covers.

    Every token with loss comes once, so bits per byte is the summed loss in bits over the summed bytes. The last
    batch may have fewer rows. Raises ValueError when nothing is held out.
    """
    opened = _open(folder, sources, "heldout", row_length)
    if not any(len(source) for source in opened):
        raise ValueError(f"{folder} holds no held-out document of {', '.join(sources)}: raise heldout_fraction")
    pad_id = read_index(folder, sources[0])["pad_id"]
    num_bytes = token_bytes(folder)
    layout: FirstFit[_Piece] = FirstFit(row_length)
    closed: list[list[_Piece]] = []

    def batch(rows: list[list[_Piece]]) -> tuple[Rows, int]:
        read = _read(rows, opened, row_length, pad_id)
        return read, int(num_bytes[read.tokens[read.loss_mask]].sum())

    for number, source in enumerate(opened):
        for piece in range(len(source)):
            closed += layout.add((number, piece), source.length(piece))
            while len(closed) >= batch_rows:
                yield batch(closed[:batch_rows])
                del closed[:batch_rows]
    closed += layout.finish()
    for start in range(0, len(closed), batch_rows):
        yield batch(closed[start : start + batch_rows])


def _open(folder: Path, names: Sequence[str], split: Split, row_length: int) -> list[_Pieces]:
    if not names:
        raise ValueError("name at least one data source")
    return [_Pieces(open_documents(folder, name, split), row_length) for name in names]


def _read(rows: Sequence[Sequence[_Piece]], sources: Sequence[_Pieces], row_length: int, pad_id: int) -> Rows:
    first_ids = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    numbered = (
        [(int(first) + i, *sources[source].read(piece)) for i, (source, piece) in enumerate(row)]
        for first, row in zip(first_ids, rows, strict=False)
    )
    return fill(numbered, len(rows), row_length, pad_id)
