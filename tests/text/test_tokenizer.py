from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from openk2.schema import ToolSpec
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import ATOMS, SPECIAL_TOKENS, SPLITTINGS, Tokenizer
from tests.text.conftest import sample_texts

SPECIAL_LITERALS = st.sampled_from([*SPECIAL_TOKENS, *ATOMS, "\n", "  ", "12345", "\u6f22\u5b57", "\0"])
TEXTS = st.lists(st.one_of(st.text(max_size=20), SPECIAL_LITERALS), max_size=6).map("".join)
# Values as worlds make them: no character of JSON's own, nothing to escape.
VALUES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9@._+ -]{0,20}", fullmatch=True).filter(lambda v: "functions." not in v)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.decode([token_id]) for token_id in tokenizer.encode(text)]


@settings(max_examples=200)
@given(text=TEXTS)
def test_every_string_comes_back_and_never_as_special_tokens(tokenizer: Tokenizer, text: str) -> None:
    token_ids = tokenizer.encode(text)
    assert tokenizer.decode(token_ids) == text
    assert not set(token_ids) & set(tokenizer.special_ids.values())


@settings(max_examples=200)
@given(text=TEXTS)
def test_token_bytes_add_up_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.token_bytes()[tokenizer.encode(text)].sum() == len(text.encode())


def test_special_tokens_stand_for_no_bytes(tokenizer: Tokenizer) -> None:
    assert not tokenizer.token_bytes()[list(tokenizer.special_ids.values())].any()


def test_lone_surrogates_become_replacement_characters(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude00")) == "\U0001f600"
    assert Tokenizer.train(["a\ud800b"], TokenizerConfig(vocab_size=400, splitting="k2")).vocab_size > 256


def test_special_tokens_come_last_in_k2_order(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.special_ids[name] for name in SPECIAL_TOKENS]
    assert ids == list(range(tokenizer.vocab_size - len(SPECIAL_TOKENS), tokenizer.vocab_size))
    assert tokenizer.vocab_size == 1024


def test_k2_splitting_follows_k2s_patterns(k2: Tokenizer) -> None:
    split = pre_tokenized(k2, "Hello World's 12345 \u6f22\u5b57abc!\n  x")
    assert split == ["Hello", " World's", " ", "123", "45", " ", "\u6f22\u5b57", "abc", "!\n", " ", " x"]


def pre_tokenized(tokenizer: Tokenizer, text: str) -> list[str]:
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert backend.pre_tokenizer is not None
    return [text[start:stop] for _, (start, stop) in backend.pre_tokenizer.pre_tokenize_str(text)]


def test_copy_splitting_glues_nothing(copy: Tokenizer) -> None:
    split = pre_tokenized(copy, "See RX-4821,\n  mira_v@velt.org")
    assert split == ["See", " ", "RX", "-", *"4821", ",", "\n", "  ", "mira", "_", "v", "@", "velt", ".", "org"]


@settings(max_examples=300)
@given(value=VALUES)
def test_a_value_has_the_same_ids_wherever_it_stands(copy: Tokenizer, value: str) -> None:
    value = value.strip()
    alone = copy.encode(value)
    places = [
        ("The owner is ", "."),
        ("", ""),
        ("One line.\n", "\nand more"),
        ('{"owner":"', '"}'),
        ('{"a":1,"owner":"', '","status":"open"}'),
        ('["', '","x"]'),
        ("(", ")"),
    ]
    for before, after in places:
        inside = copy.encode(before + value + after)
        start = len(copy.encode(before))
        assert inside[start : start + len(alone)] == alone, (before, after)


def test_small_words_take_their_spaces_and_values_stand_alone() -> None:
    split = pre_tokenizers.Split(Regex(SPLITTINGS["copy"]), behavior="isolated")
    cut = [piece for piece, _ in split.pre_tokenize_str("The status of the order is paid, not of K-48: a 7. Is it")]
    assert cut == [
        "The", " ", "status", " of the ", "order", " is ", "paid", ", ", "not", " of ", "K", "-", "4", "8", ": ",
        "a", " ", "7", ". ", "Is", " ", "it",
    ]  # fmt: skip


def test_atoms_are_single_tokens_and_decode_to_their_text(copy: Tokenizer) -> None:
    assert len(set(ATOMS)) == len(ATOMS)
    for atom in ATOMS:
        token_ids = copy.encode(atom)
        assert len(token_ids) == 1, atom
        assert copy.decode(token_ids) == atom


def test_a_tool_costs_little_beyond_its_words(copy: Tokenizer, get_order: ToolSpec) -> None:
    text = json.dumps([get_order.to_json()], separators=(",", ":"))
    words = len(copy.encode("get_order")) + 2 * len(copy.encode("order_id")) + len(copy.encode("Look up an order."))
    assert len(copy.encode(text)) - words == 5


def test_call_arguments_cost_little_beyond_their_words(copy: Tokenizer) -> None:
    assert pieces(copy, '{"order_id":"A12","status":"open"}').count('","') == 1
    words = sum(len(copy.encode(word)) for word in ("order_id", "A12", "status", "open"))
    assert len(copy.encode('{"order_id":"A12","status":"open"}')) - words == 5


def test_training_is_deterministic_and_depends_on_the_texts() -> None:
    config = TokenizerConfig(vocab_size=512, splitting="copy", json_atoms=True)
    first, second = (Tokenizer.train(iter(sample_texts()), config) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.hash != Tokenizer.train(sample_texts()[:1], config).hash


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    assert loaded.hash == tokenizer.hash
    text = 'A <|im_end|> {"id":"K-481"} \u6f22'
    assert loaded.encode(text) == tokenizer.encode(text)


def test_a_small_corpus_gives_a_smaller_vocabulary() -> None:
    assert Tokenizer.train(["ab"], TokenizerConfig(vocab_size=4096, splitting="k2")).vocab_size == 256 + 15


def test_wrong_files_and_sizes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too small"):
        Tokenizer.train([], TokenizerConfig(vocab_size=260, splitting="k2"))
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        Tokenizer.load(tmp_path / "nowhere.json")
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ValueError, match=r"broken\.json is no tokenizer.json"):
        Tokenizer.load(tmp_path / "broken.json")
    with pytest.raises(ValueError, match="lacks special tokens"):
        Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()))
