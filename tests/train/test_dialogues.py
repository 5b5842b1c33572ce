"""Dialogues as an endless, resumable stream of rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.schema import Message
from openk2.text.chat import ChatFormat, Encoded
from openk2.text.config import TokenizerConfig
from openk2.text.packing import Rows
from openk2.text.tokenizer import Tokenizer
from openk2.train.dialogues import DialogueStream, read_dialogues

PAD = 0


def dialogue(number: int, length: int) -> Encoded:
    """Tokens that name their dialogue; the second half is to be learnt."""
    return Encoded([number + 1] * length, [i >= length // 2 for i in range(length)])


def stream(lengths: list[int], *, batch_rows: int = 2, row_length: int = 16, seed: int = 0) -> DialogueStream:
    dialogues = [dialogue(i, length) for i, length in enumerate(lengths)]
    return DialogueStream(dialogues, row_length=row_length, batch_rows=batch_rows, pad_id=PAD, seed=seed)


def same(a: Rows, b: Rows) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("tokens", "loss_mask", "doc_ids", "positions")
    )


@settings(max_examples=40)
@given(st.lists(st.integers(1, 16), min_size=1, max_size=40), st.integers(0, 5))
def test_an_epoch_holds_every_dialogue_once(lengths: list[int], seed: int) -> None:
    source = stream(lengths, batch_rows=1, seed=seed)
    tokens: Counter[int] = Counter()
    learnt = 0
    while True:
        rows = source.next_rows()
        if source.epoch:
            break
        tokens.update(rows.tokens[rows.doc_ids >= 0].tolist())
        learnt += int(rows.loss_mask.sum())
    assert tokens == Counter({i + 1: length for i, length in enumerate(lengths)})
    # The first token of a dialogue follows nothing: it cannot be predicted.
    assert learnt == sum(length - length // 2 - (length == 1) for length in lengths)


@settings(max_examples=20)
@given(st.integers(0, 12), st.integers(0, 3))
def test_a_resumed_stream_goes_on_exactly(num_before: int, seed: int) -> None:
    lengths = [3 + i % 11 for i in range(25)]
    source = stream(lengths, seed=seed)
    for _ in range(num_before):
        source.next_rows()
    saved = json.loads(json.dumps(source.state_dict()))
    resumed = stream(lengths, seed=seed)
    resumed.load_state_dict(saved)
    assert all(same(source.next_rows(), resumed.next_rows()) for _ in range(10))
    assert source.state_dict() == resumed.state_dict()


def test_every_epoch_has_its_own_order() -> None:
    source = stream([9] * 12, batch_rows=12, row_length=16)  # two do not fit in a row
    first, second = source.next_rows(), source.next_rows()
    assert source.epoch == 1
    assert not np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(np.unique(first.tokens), np.unique(second.tokens))


def test_too_few_dialogues_for_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="2 dialogues fill 1 rows of 16 tokens, a batch needs 2"):
        stream([4, 4])


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    text = [f"please find order {i} of somebody" for i in range(200)]
    return ChatFormat(Tokenizer.train(text, TokenizerConfig(vocab_size=400, splitting="copy")))


def test_files_are_read_and_bad_lines_named(tmp_path: Path, chat: ChatFormat) -> None:
    path = tmp_path / "traces.jsonl"
    with pytest.raises(ValueError, match=r"traces\.jsonl is missing"):
        read_dialogues(path, chat)
    path.write_text("")
    with pytest.raises(ValueError, match=r"traces\.jsonl is empty"):
        read_dialogues(path, chat)
    messages = [Message("user", "find order 7"), Message("assistant", "here")]
    line = json.dumps({"messages": [message.to_json() for message in messages], "tools": []})
    path.write_text(f"{line}\n")
    assert read_dialogues(path, chat) == [chat.encode(messages, [])]
    for broken in ('{"messages": 3, "tools": []}', '{"tools": []}', "no json"):
        path.write_text(f"{line}\n{broken}\n")
        with pytest.raises(ValueError, match=r"traces\.jsonl:2 is no dialogue"):
            read_dialogues(path, chat)
