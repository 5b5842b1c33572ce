from __future__ import annotations

import json
import logging
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from openk2.data.config import DataConfig, SourceConfig
from openk2.data.copying import copying
from openk2.data.corpus import documents
from openk2.data.documents import Document, Skipped
from openk2.data.store import SPLITS, build, encode_documents, open_documents, read_index, split_of, token_bytes
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer


def stored_texts(folder: Path, name: str, split: str, tokenizer: Tokenizer) -> list[str]:
    found = open_documents(folder, name, split)  # type: ignore[arg-type]
    texts = []
    for start, stop in zip(found.offsets, found.offsets[1:], strict=False):
        ids = found.tokens[start:stop].tolist()
        assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
        texts.append(tokenizer.decode(ids[1:-1]))
    return texts


def test_the_store_holds_the_corpus_split_by_hash(data: DataConfig, store: Path, tokenizer: Tokenizer) -> None:
    for source in data.sources:
        stored = {split: stored_texts(store, source.name, split, tokenizer) for split in SPLITS}
        number = sum(map(len, stored.values()))
        original = [each.text for each in islice(documents(source, data.seed, Skipped()), number)]
        for split in SPLITS:
            assert stored[split] == [text for text in original if split_of(text, data.heldout_fraction) == split]
            assert stored[split]


def test_the_limit_holds_to_a_document(data: DataConfig, store: Path) -> None:
    for source in data.sources:
        counts = read_index(store, source.name)["splits"]
        num_tokens = sum(counts[split]["num_tokens"] for split in SPLITS)
        assert source.max_tokens is not None
        assert source.max_tokens <= num_tokens < source.max_tokens + 3000


def test_loss_covers_exactly_the_marked_characters(tokenizer: Tokenizer) -> None:
    batch = [
        Document((('{"owner":"', False), ("Zamori", True), ('"}', False)), "x"),
        Document((("say \u6f22\u5b57 ", False), ("\u6f22\u5b57\u00e9", True)), "x"),
        *islice(copying(1), 200),
    ]
    for document, (ids, mask) in zip(batch, encode_documents(batch, tokenizer), strict=True):
        assert ids[1:-1] == tokenizer.encode(document.text)
        assert len(mask) == len(ids)
        assert not mask[0]
        assert mask[-1] == document.parts[-1][1]
    ids, mask = encode_documents(batch, tokenizer)[0]
    assert tokenizer.decode([each for each, loss in zip(ids, mask, strict=True) if loss]) == "Zamori"
    ids, mask = encode_documents(batch, tokenizer)[1]
    assert tokenizer.decode([each for each, loss in zip(ids, mask, strict=True) if loss]) == "\u6f22\u5b57\u00e9[EOS]"


def test_single_parts_and_many_parts_agree(tokenizer: Tokenizer) -> None:
    text = 'Dova \u6f22 asks {"id":"K-481"}'
    whole, parted = Document(((text, True),), "x"), Document(((text[:7], True), (text[7:], True)), "x")
    [(first, first_mask)] = encode_documents([whole], tokenizer)
    [(second, second_mask)] = encode_documents([parted], tokenizer)
    assert first == second
    assert (first_mask == second_mask).all()


def test_bytes_are_the_texts_bytes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [f"document {i} \u6f22\u5b57" for i in range(50)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = SourceConfig(kind="files", weight=1, path=tmp_path / "a.jsonl")
    counts = build(DataConfig(sources=(source,), heldout_fraction=0.2), tokenizer, tmp_path / "corpus")
    num_bytes = sum(count.num_bytes for count in counts["files"].values())
    assert num_bytes == sum(len(text.encode()) for text in texts)
    assert (token_bytes(tmp_path / "corpus") == tokenizer.token_bytes()).all()


def test_duplicates_go_the_same_way(tmp_path: Path, tokenizer: Tokenizer) -> None:
    lines = [json.dumps({"text": f"text {i % 40}"}) + "\n" for i in range(120)]
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    sources = tuple(
        SourceConfig(kind="files", label=name, weight=1, path=tmp_path / f"{name}.jsonl") for name in ("a", "b")
    )
    build(DataConfig(sources=sources, heldout_fraction=0.3), tokenizer, tmp_path / "corpus")
    seen = {
        split: {text for name in ("a", "b") for text in stored_texts(tmp_path / "corpus", name, split, tokenizer)}
        for split in SPLITS
    }
    assert seen["train"]
    assert seen["heldout"]
    assert not seen["train"] & seen["heldout"]


def test_building_again_keeps_what_is_there_and_adds_what_is_missing(
    data: DataConfig, store: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    shutil.copytree(store / "copying", tmp_path / "copying")
    (tmp_path / ".knowledge.partial").mkdir()
    (tmp_path / ".knowledge.partial" / "train.tokens").write_text("cut off")
    before = (tmp_path / "copying" / "train.tokens").stat().st_mtime_ns
    build(data, tokenizer, tmp_path)
    assert (tmp_path / "copying" / "train.tokens").stat().st_mtime_ns == before
    for file in ("train.tokens", "train.loss", "heldout.offsets", "index.json"):
        assert (tmp_path / "knowledge" / file).read_bytes() == (store / "knowledge" / file).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copying", "knowledge", "token_bytes.npy"]


def test_a_store_of_other_settings_is_refused(data: DataConfig, store: Path, tokenizer: Tokenizer) -> None:
    other = Tokenizer.train(["other"], TokenizerConfig(vocab_size=400, splitting="k2"))
    before = (store / "token_bytes.npy").read_bytes()
    with pytest.raises(ValueError, match="copying was made with another tokenizer: remove it"):
        build(data, other, store)
    assert (store / "token_bytes.npy").read_bytes() == before
    with pytest.raises(ValueError, match="copying was made with another seed"):
        build(data.model_copy(update={"seed": 6}), tokenizer, store)


def test_an_empty_corpus_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.bin").write_bytes(b"\0")
    config = DataConfig(sources=(SourceConfig(kind="files", weight=1, path=tmp_path / "in"),))
    with pytest.raises(ValueError, match=r"in has no text to train on \(skipped: 1 binary files\)"):
        build(config, tokenizer, tmp_path / "corpus")
    assert not (tmp_path / "corpus" / "files").exists()


def test_skipped_files_are_said_once(tmp_path: Path, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.bin", "b.bin"):
        (tmp_path / "in" / name).write_bytes(b"\0")
    (tmp_path / "in" / "c.txt").write_text("some text")
    config = DataConfig(sources=(SourceConfig(kind="files", weight=1, path=tmp_path / "in"),))
    with caplog.at_level(logging.WARNING):
        build(config, tokenizer, tmp_path / "corpus")
    assert [record.getMessage() for record in caplog.records] == ["data source 'files': skipped 2 binary files"]
    assert read_index(tmp_path / "corpus", "files")["skipped"] == {"binary files": 2}


def test_missing_and_cut_stores_are_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"index\.json is missing"):
        open_documents(tmp_path, "copying", "train")
    shutil.copytree(store, tmp_path / "store")
    path = tmp_path / "store" / "copying" / "train.tokens"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"train\.tokens should have \d+ bytes"):
        open_documents(tmp_path / "store", "copying", "train")


def test_a_large_vocabulary_takes_wider_tokens(store: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert open_documents(store, "copying", "train").tokens.dtype == np.uint16
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    backend.add_tokens([f"word{number}." for number in range(70_000)])
    (tmp_path / "a.txt").write_text("word69999.")
    config = DataConfig(sources=(SourceConfig(kind="files", weight=1, path=tmp_path / "a.txt"),))
    build(config, Tokenizer(backend), tmp_path / "corpus")
    found = open_documents(tmp_path / "corpus", "files", "train")
    assert found.tokens.dtype == np.uint32
    assert found.tokens[1] == tokenizer.vocab_size + 69_999
