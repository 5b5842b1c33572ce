"""Tokenise a corpus once, into flat files that streams read through memory maps.

A folder per source: ``SPLIT.tokens`` (uint16, or uint32 for a large vocabulary), ``SPLIT.loss`` (uint8, 1 where
a token is to be predicted), ``SPLIT.offsets`` (int64, where documents begin, one more at the end) for the
splits train and heldout, and ``index.json``. Every document is ``[BOS] text [EOS]``. A source is written
beside and renamed when whole, so what is there is complete: building again goes on with the next source.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from openk2.data.config import DataConfig, SourceConfig
from openk2.data.corpus import documents, no_text
from openk2.data.documents import Document, Skipped
from openk2.jobs.atomic import write_bytes
from openk2.text.tokenizer import Tokenizer

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
_BATCH_CHARS = 200_000  # tokenised at once: bounds the memory

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What a split of a source holds. ``num_bytes`` is the UTF-8 text under the tokens with loss."""

    num_documents: int = 0
    num_tokens: int = 0
    num_loss_tokens: int = 0
    num_bytes: int = 0


@dataclass(slots=True)
class Documents:
    """A split of a source, read through memory maps."""

    tokens: np.ndarray  # [num_tokens] uint16 or uint32
    loss_mask: np.ndarray  # [num_tokens] uint8
    offsets: np.ndarray  # [num_documents + 1] int64


def build(config: DataConfig, tokenizer: Tokenizer, folder: Path) -> dict[str, dict[Split, Counts]]:
    """Tokenise every source of ``config`` that ``folder`` does not hold yet; the counts by source and split.

    Raises ValueError for a source without any document, and when ``folder`` holds a source made with
    another tokenizer or other settings (weights may change).
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = {source.name: _build_source(source, config, tokenizer, folder / source.name) for source in config.sources}
    _save_atomically(folder / "token_bytes.npy", tokenizer.token_bytes())
    return counts


def open_documents(folder: Path, source: str, split: Split) -> Documents:
    """Map a split that ``build`` made. Raises ValueError when it is missing or cut off."""
    index = read_index(folder, source)
    counts = Counts(**index["splits"][split])
    sizes = {"tokens": counts.num_tokens, "loss": counts.num_tokens, "offsets": counts.num_documents + 1}
    kinds = {"tokens": np.dtype(index["dtype"]), "loss": np.dtype(np.uint8), "offsets": np.dtype(np.int64)}
    return Documents(*(_map(folder / source / f"{split}.{name}", kinds[name], sizes[name]) for name in sizes))


def read_index(folder: Path, source: str) -> dict[str, Any]:
    """The index of a source. Raises ValueError when it is not there."""
    path = folder / source / "index.json"
    if not path.exists():
        raise ValueError(f"{path} is missing: the corpus was not built here")
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return index


def token_bytes(folder: Path) -> np.ndarray:
    """How many bytes of text each token stands for, [vocab_size] int64."""
    array: np.ndarray = np.load(folder / "token_bytes.npy", allow_pickle=False)
    return array


def split_of(text: str, heldout_fraction: float) -> Split:
    """The split of a text, from its hash: equal texts always go the same way, in every source."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return "heldout" if int.from_bytes(digest[:8]) < heldout_fraction * 2**64 else "train"


def encode_documents(batch: Sequence[Document], tokenizer: Tokenizer) -> list[tuple[list[int], np.ndarray]]:
    """Ids and loss mask of each document, with [BOS] and [EOS].

    A text is tokenised whole, not by its parts; a token has loss when any of its characters has.
    """
    encoded: list[tuple[list[int], np.ndarray]] = []
    if all(len(document.parts) == 1 for document in batch):
        for document, ids in zip(batch, tokenizer.encode_batch([each.text for each in batch]), strict=True):
            encoded.append(_framed(ids, np.full(len(ids), document.parts[0][1]), document, tokenizer))
        return encoded
    with_offsets = tokenizer.encode_with_offsets([document.text for document in batch])
    for document, (ids, offsets) in zip(batch, with_offsets, strict=True):
        marks = np.repeat([loss for _, loss in document.parts], [len(text) for text, _ in document.parts])
        before = np.concatenate(([0], np.cumsum(marks)))  # characters with loss before each character
        spans = np.array(offsets, np.int64).reshape(-1, 2)
        encoded.append(_framed(ids, before[spans[:, 1]] > before[spans[:, 0]], document, tokenizer))
    return encoded


def _framed(ids: list[int], mask: np.ndarray, document: Document, tokenizer: Tokenizer) -> tuple[list[int], np.ndarray]:
    framed_mask = np.concatenate(([False], mask, [document.parts[-1][1]]))
    return [tokenizer.bos_id, *ids, tokenizer.eos_id], framed_mask


def _build_source(source: SourceConfig, config: DataConfig, tokenizer: Tokenizer, folder: Path) -> dict[Split, Counts]:
    made_from = {
        "tokenizer": tokenizer.hash,
        "source": source.model_dump(mode="json", exclude={"weight"}),
        "seed": config.seed,
        "heldout_fraction": config.heldout_fraction,
    }
    if folder.exists():
        index = read_index(folder.parent, source.name)
        different = [key for key, value in made_from.items() if index["made_from"].get(key) != value]
        if different:
            raise ValueError(f"{folder} was made with another {' and '.join(different)}: remove it to build it anew")
        return {split: Counts(**index["splits"][split]) for split in SPLITS}

    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    skipped = Skipped()
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
    with ExitStack() as files:
        writers = {split: _Writer(beside, split, dtype, tokenizer, files) for split in SPLITS}
        for document, ids, mask in _encoded(documents(source, config.seed, skipped), tokenizer):
            writers[split_of(document.text, config.heldout_fraction)].write(ids, mask)
            num_tokens = sum(writer.counts.num_tokens for writer in writers.values())
            if source.max_tokens is not None and num_tokens >= source.max_tokens:
                break
        counts = {split: writer.counts for split, writer in writers.items()}
    if counts["train"].num_documents == 0:
        raise no_text(source, skipped)
    if skipped:
        said = ", ".join(f"{number} {reason}" for reason, number in sorted(skipped.items()))
        logger.warning("data source %r: skipped %s", source.name, said)
    index = {
        "made_from": made_from,
        "dtype": dtype.name,
        "pad_id": tokenizer.pad_id,
        "skipped": dict(skipped),
        "splits": {split: asdict(count) for split, count in counts.items()},
    }
    (beside / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder)
    return counts


class _Writer:
    """Appends documents to the files of a split."""

    def __init__(self, folder: Path, split: Split, dtype: np.dtype, tokenizer: Tokenizer, files: ExitStack) -> None:
        self.counts = Counts()
        self._dtype = dtype
        self._token_bytes = tokenizer.token_bytes()
        self._tokens, self._loss, self._offsets = (
            files.enter_context((folder / f"{split}.{name}").open("wb")) for name in ("tokens", "loss", "offsets")
        )
        _append(self._offsets, np.zeros(1, np.int64))

    def write(self, ids: Sequence[int], mask: np.ndarray) -> None:
        tokens = np.array(ids, self._dtype)
        _append(self._tokens, tokens)
        _append(self._loss, mask.astype(np.uint8))
        self.counts.num_documents += 1
        self.counts.num_tokens += len(tokens)
        self.counts.num_loss_tokens += int(mask.sum())
        self.counts.num_bytes += int(self._token_bytes[tokens[mask]].sum())
        _append(self._offsets, np.array([self.counts.num_tokens], np.int64))


def _append(file: BinaryIO, array: np.ndarray) -> None:
    file.write(array.tobytes())


def _encoded(found: Iterable[Document], tokenizer: Tokenizer) -> Iterator[tuple[Document, list[int], np.ndarray]]:
    """Documents with ids and loss mask, tokenised some 200 KB of text at a time."""
    batch: list[Document] = []
    num_chars = 0
    for document in found:
        batch.append(document)
        num_chars += len(document.text)
        if num_chars >= _BATCH_CHARS:
            yield from _with_ids(batch, tokenizer)
            batch, num_chars = [], 0
    yield from _with_ids(batch, tokenizer)


def _with_ids(batch: Sequence[Document], tokenizer: Tokenizer) -> Iterator[tuple[Document, list[int], np.ndarray]]:
    for document, (ids, mask) in zip(batch, encode_documents(batch, tokenizer), strict=True):
        yield document, ids, mask


def _map(path: Path, dtype: np.dtype, length: int) -> np.ndarray:
    size = path.stat().st_size if path.exists() else -1
    if size != length * dtype.itemsize:
        raise ValueError(f"{path} should have {length * dtype.itemsize} bytes, has {max(size, 0)}: build it anew")
    return np.memmap(path, dtype, mode="r", shape=(length,)) if length else np.empty(0, dtype)


def _save_atomically(path: Path, array: np.ndarray) -> None:
    npy = io.BytesIO()
    np.save(npy, array, allow_pickle=False)
    write_bytes(path, npy.getvalue())
