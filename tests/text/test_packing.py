from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.text.packing import PADDING, pack

LENGTHS = st.lists(st.integers(0, 24), max_size=40)
PAD = 9999


def make(lengths: list[int]) -> list[tuple[list[int], list[bool]]]:
    """Sequences whose tokens are all different, so that a lost or doubled one shows."""
    starts = np.cumsum([0, *lengths])
    return [
        (list(range(s, s + n)), [(s + i) % 3 != 0 for i in range(n)]) for s, n in zip(starts, lengths, strict=False)
    ]


@settings(max_examples=200)
@given(lengths=LENGTHS, row_length=st.integers(2, 16), max_open=st.integers(1, 4), drop=st.booleans())
def test_nothing_lost_nothing_doubled(lengths: list[int], row_length: int, max_open: int, drop: bool) -> None:
    sequences = make(lengths)
    packed = pack(sequences, row_length, pad_id=PAD, overlong="drop" if drop else "cut", max_open=max_open)
    assert packed.num_overlong == sum(length > row_length for length in lengths)
    for number, (token_ids, loss_mask) in enumerate(sequences):
        rows, columns = np.nonzero(packed.doc_ids == number)
        kept = 0 if drop and len(token_ids) > row_length else min(len(token_ids), row_length)
        assert len(columns) == kept
        if kept:
            assert len(set(rows)) == 1
            assert list(columns) == list(range(columns[0], columns[0] + kept))
            assert list(packed.tokens[rows, columns]) == token_ids[:kept]
            assert list(packed.positions[rows, columns]) == list(range(kept))
            assert list(packed.loss_mask[rows, columns]) == [False, *loss_mask[1:kept]]
    padding = packed.doc_ids == PADDING
    assert (packed.tokens[padding] == PAD).all()
    assert not packed.loss_mask[padding].any()
    assert padding.sum() + sum((packed.doc_ids == n).sum() for n in range(len(lengths))) == padding.size
    assert packed.tokens.shape[1] == row_length


@settings(max_examples=50)
@given(lengths=LENGTHS)
def test_padding_comes_last_in_a_row_and_no_row_is_empty(lengths: list[int]) -> None:
    doc_ids = pack(make(lengths), 24, pad_id=PAD, overlong="drop").doc_ids
    real = doc_ids != PADDING
    assert (real[:, 1:] <= real[:, :-1]).all()
    assert real[:, 0].all()


def test_first_fit_by_hand() -> None:
    packed = pack(make([6, 5, 4, 3, 10]), 10, pad_id=PAD, overlong="cut", max_open=2)
    assert [list(dict.fromkeys(row)) for row in packed.doc_ids.tolist()] == [[0, 2], [4], [1, 3, PADDING]]


def test_packing_wastes_little() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 300, 2000).tolist()
    packed = pack(make(lengths), 512, pad_id=PAD, overlong="cut")
    assert (packed.doc_ids == PADDING).mean() < 0.03


def test_unequal_mask_is_named() -> None:
    with pytest.raises(ValueError, match="sequence 1: 2 tokens but a loss mask of 1"):
        pack([([1], [True]), ([1, 2], [True])], 4, pad_id=0, overlong="cut")
