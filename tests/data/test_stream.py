from __future__ import annotations

import json
import math
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.data.store import open_documents, read_index
from openk2.data.stream import TokenStream, heldout_batches
from openk2.text.packing import PADDING, Rows

WEIGHTS = {"copying": 3.0, "knowledge": 1.0}


def stream(store: Path, seed: int = 1, row_length: int = 128, weights: dict[str, float] = WEIGHTS) -> TokenStream:
    return TokenStream(store, row_length=row_length, batch_rows=4, seed=seed, weights=weights)


def same(a: Rows, b: Rows) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("tokens", "loss_mask", "doc_ids", "positions")
    )


def sequences(rows: Rows) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """The packed pieces of a batch."""
    found = []
    for number in sorted(set(rows.doc_ids.ravel().tolist()) - {PADDING}):
        at = rows.doc_ids == number
        assert rows.positions[at].tolist() == list(range(at.sum()))
        assert len(set(np.nonzero(at)[0])) == 1
        found.append((tuple(rows.tokens[at].tolist()), tuple(rows.loss_mask[at].tolist())))
    return found


def expected_pieces(store: Path, source: str, split: str, row_length: int) -> Counter:
    documents = open_documents(store, source, split)  # type: ignore[arg-type]
    found: Counter = Counter()
    for start, stop in zip(documents.offsets, documents.offsets[1:], strict=False):
        tokens, mask = documents.tokens[start:stop].tolist(), documents.loss_mask[start:stop].astype(bool).tolist()
        for at in range(0, len(tokens) - 1, row_length - 1):
            piece = slice(at, at + row_length)
            found[(tuple(tokens[piece]), (False, *mask[at + 1 : at + row_length]))] += 1
    return found


@settings(max_examples=12)
@given(stop=st.integers(0, 30), row_length=st.sampled_from([32, 128, 300]), seed=st.integers(0, 3))
def test_an_interrupted_stream_goes_on_at_the_exact_token(store: Path, stop: int, row_length: int, seed: int) -> None:
    whole = stream(store, seed, row_length)
    begun = stream(store, seed, row_length)
    for _ in range(stop):
        assert same(next(whole), next(begun))
    state = json.loads(json.dumps(begun.state_dict()))
    resumed = stream(store, seed, row_length)
    resumed.load_state_dict(state)
    assert all(same(next(whole), next(resumed)) for _ in range(25))


@pytest.mark.parametrize("row_length", [24, 128, 400])
def test_every_epoch_has_every_token_once(store: Path, row_length: int) -> None:
    expected = expected_pieces(store, "knowledge", "train", row_length)
    running = stream(store, row_length=row_length, weights={"knowledge": 1.0})
    seen: Counter = Counter()
    while running.epochs()["knowledge"] < 6:
        seen.update(sequences(next(running)))
    state = running.state_dict()
    waiting = sum(map(len, state["open_rows"] + state["closed"]))
    assert seen.total() + waiting == round(running.epochs()["knowledge"] * expected.total())
    assert set(seen) == set(expected)
    epochs = math.ceil(running.epochs()["knowledge"])
    assert all(6 * count - waiting <= seen[piece] <= epochs * count for piece, count in expected.items())


def test_every_scored_token_lies_in_exactly_one_piece(store: Path) -> None:
    for row_length in (24, 128):
        pieces = expected_pieces(store, "copying", "train", row_length)
        scored = sum(sum(mask) * count for (_, mask), count in pieces.items())
        assert scored == read_index(store, "copying")["splits"]["train"]["num_loss_tokens"]


def test_sources_are_mixed_by_weight(store: Path) -> None:
    own = {name: expected_pieces(store, name, "train", 128) for name in WEIGHTS}
    counted = dict.fromkeys(WEIGHTS, 0)
    for rows in islice(stream(store), 150):
        for piece in sequences(rows):
            name = next(name for name in WEIGHTS if piece in own[name])
            counted[name] += len(piece[0])
    assert counted["copying"] / counted["knowledge"] == pytest.approx(3, rel=0.05)


def test_seeds_and_epochs_change_the_order(store: Path) -> None:
    assert not same(next(stream(store, 1)), next(stream(store, 2)))
    running = stream(store, weights={"knowledge": 1.0})
    first = next(running)
    while running.epochs()["knowledge"] < 1.5:
        assert not same(next(running), first)


def test_rows_are_well_filled(store: Path) -> None:
    padding = np.mean([(rows.doc_ids == PADDING).mean() for rows in islice(stream(store, row_length=512), 30)])
    assert padding < 0.05


def test_a_state_of_another_stream_is_refused(store: Path) -> None:
    state = stream(store).state_dict()
    with pytest.raises(ValueError, match="another seed than this one"):
        stream(store, seed=9).load_state_dict(state)
    with pytest.raises(ValueError, match="another row_length"):
        stream(store, row_length=64).load_state_dict(state)


def test_heldout_scores_every_byte_once(store: Path) -> None:
    for names in (["copying"], ["knowledge"], ["copying", "knowledge"]):
        passed = list(heldout_batches(store, names, row_length=100, batch_rows=4))
        counts = [read_index(store, name)["splits"]["heldout"] for name in names]
        assert sum(num_bytes for _, num_bytes in passed) == sum(count["num_bytes"] for count in counts) > 0
        assert sum(int(rows.loss_mask.sum()) for rows, _ in passed) == sum(c["num_loss_tokens"] for c in counts)
        assert len(passed) == math.ceil(sum(len(rows.tokens) for rows, _ in passed) / 4)
        seen = Counter(piece for rows, _ in passed for piece in sequences(rows))
        assert seen == sum((expected_pieces(store, name, "heldout", 100) for name in names), Counter())


def test_missing_sources_are_named(store: Path) -> None:
    with pytest.raises(ValueError, match=r"python.*is missing"):
        stream(store, weights={"python": 1.0})
    with pytest.raises(ValueError, match="at least one"):
        stream(store, weights={})


def test_memory_stays_constant(store: Path) -> None:
    running = stream(store)
    for _ in range(100):
        next(running)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        next(running)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000
