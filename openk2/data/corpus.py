"""Read documents, one at a time, from wherever they are (K2 §2.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from pathlib import Path

import pyarrow
import pyarrow.parquet

from openk2.data.config import DataConfig, SourceConfig
from openk2.data.copying import copying
from openk2.data.documents import Document, Skipped, read_text
from openk2.data.knowledge import knowledge
from openk2.data.python import python_texts


def documents(source: SourceConfig, seed: int, skipped: Skipped) -> Iterator[Document]:
    """All documents of a source, without empty ones, the same for the same seed; generated ones never end.

    What cannot be read as text is counted in ``skipped`` by reason. Raises ValueError for a path that does not
    exist and for records without their text field.
    """
    if source.kind == "copying":
        return copying(seed, source.name)
    if source.kind == "knowledge":
        return knowledge(seed, source.name)
    if source.kind == "python":
        texts = python_texts(seed, skipped)
    else:
        assert source.path is not None, "the config demands a path"
        texts = _file_texts(source, source.path, skipped)
    return (Document(((text, True),), source.name) for text in texts if text.strip())


def mixed_texts(config: DataConfig, num_chars: int) -> Iterator[str]:
    """About ``num_chars`` characters of all sources by weight: what to train a tokenizer on.

    Raises ValueError for a source without any text.
    """
    skipped = Skipped()
    readers = {source.name: documents(source, config.seed, skipped) for source in config.sources}
    named = {source.name: source for source in config.sources}
    weights = {source.name: source.weight for source in config.sources}
    queue: list[tuple[float, str]] = []
    for name in weights:
        heappush(queue, (0.0, name))
    given = 0
    while queue and given < num_chars:
        progress, name = heappop(queue)
        document = next(readers[name], None)
        if document is not None:
            given += len(document.text)
            yield document.text
            heappush(queue, (progress + len(document.text) / weights[name], name))
        elif progress == 0.0:
            raise no_text(named[name], skipped)


def no_text(source: SourceConfig, skipped: Skipped) -> ValueError:
    """The error for a source that gave nothing."""
    where = f" at {source.path}" if source.path else ""
    said = ", ".join(f"{number} {reason}" for reason, number in sorted(skipped.items()))
    return ValueError(f"data source {source.name!r}{where} has no text to train on (skipped: {said or 'nothing'})")


def _file_texts(source: SourceConfig, root: Path, skipped: Skipped) -> Iterator[str]:
    if not root.exists():
        raise ValueError(f"data source {source.name!r}: {root} does not exist")
    for path in [root] if root.is_file() else _files_below(root):
        if path.suffix == ".jsonl":
            yield from _jsonl_texts(path, source.text_field, skipped)
        elif path.suffix == ".parquet":
            yield from _parquet_texts(path, source.text_field)
        else:
            yield read_text(path, skipped)


def _files_below(root: Path) -> Iterable[Path]:
    """All files that are not hidden, in the order of their names."""
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def _jsonl_texts(path: Path, text_field: str, skipped: Skipped) -> Iterator[str]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                skipped["lines not in UTF-8"] += 1
                continue
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON: {error}") from error
            if not isinstance(record, dict) or not isinstance(record.get(text_field), str):
                has = f"has {', '.join(sorted(record))}" if isinstance(record, dict) else "is no object"
                raise ValueError(f"{path}:{number}: no text under {text_field!r}; the record {has}")
            yield record[text_field]


def _parquet_texts(path: Path, text_field: str) -> Iterator[str]:
    try:
        table = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is no parquet file: {error}") from error
    with table:
        if text_field not in table.schema_arrow.names:
            raise ValueError(f"{path}: no column {text_field!r}; there is {', '.join(table.schema_arrow.names)}")
        kind = table.schema_arrow.field(text_field).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise ValueError(f"{path}: column {text_field!r} holds {kind}, not text")
        for batch in table.iter_batches(batch_size=256, columns=[text_field]):
            yield from (text or "" for text in batch.column(0).to_pylist())
