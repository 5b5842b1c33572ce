"""Where trajectories lie: JSON Lines and parquet files, read record by record."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq

from openk2.schema import JSON
from openk2.view.trajectories.record import Trajectory, check, parse

BATCH_ROWS = 256
TEXT_COLUMNS = frozenset({"id", "split", "kind", "stage", "reason"})
# What JSON writes otherwise than it reads; the parts between can be looked for before a line is parsed.
ESCAPED = re.compile(r'["\\/\x00-\x1f\x7f]+')
log = logging.getLogger(__name__)


class Source(Protocol):
    """One file. After `scan` has run to its end, records can be had by their number."""

    path: Path
    size: int

    def scan(self) -> Iterator[tuple[Trajectory, int]]:
        """All records in order, each with the units of ``size`` it takes.

        Raises ValueError, naming file and line, for what is no trajectory.
        """
        ...

    def record(self, number: int) -> Trajectory:
        """One record. Raises ValueError when the file has changed since."""
        ...

    def may_hold(self, number: int, words: str) -> bool:
        """False only when the record's text does not hold ``words``, which are in lower case."""
        ...


class Lines:
    """JSON Lines, by the byte offset of each line. ``size`` is in bytes."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, path.stat().st_size
        self._file = path.open("rb")
        self._starts, self._lengths = array("q"), array("q")
        self._lines = array("q")

    def scan(self) -> Iterator[tuple[Trajectory, int]]:
        """In order; a torn last line, as of a file still being written, is reported and left out."""
        start = 0
        for line_number, line in enumerate(self._file, start=1):
            if line.strip():
                try:
                    record = parse(line, f"{self.path}:{line_number}")
                except ValueError:
                    if line.endswith(b"\n"):
                        raise
                    log.warning("%s:%d: left out a torn last line of %d bytes", self.path, line_number, len(line))
                    return
                self._starts.append(start)
                self._lengths.append(len(line))
                self._lines.append(line_number)
                yield record, len(line)
            start += len(line)

    def record(self, number: int) -> Trajectory:
        """The record on a line."""
        where = f"{self.path}:{self._lines[number]} (changed since it was opened?)"
        return parse(self._bytes(number), where)

    def may_hold(self, number: int, words: str) -> bool:
        """Looks at the line as it is written; what is not ASCII may be escaped there."""
        line = self._bytes(number).decode(errors="replace").lower()
        return all(part in line or (not part.isascii() and "\\u" in line) for part in ESCAPED.split(words))

    def _bytes(self, number: int) -> bytes:
        return os.pread(self._file.fileno(), self._lengths[number], self._starts[number])


class Table:
    """Parquet with the same columns: nested ones as JSON text or as nested types. ``size`` is in rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (ValueError, OSError) as error:  # pyarrow's are subclasses of these
            raise ValueError(f"{path}: not a parquet file: {error}") from error
        groups = range(self._file.num_row_groups)
        self._ends = list(accumulate(self._file.metadata.row_group(group).num_rows for group in groups))
        self.size = self._file.metadata.num_rows
        self._lock = threading.Lock()  # a ParquetFile is for one thread

    def scan(self) -> Iterator[tuple[Trajectory, int]]:
        """In order."""
        row = 0
        for batch in self._file.iter_batches(BATCH_ROWS):
            for values in batch.to_pylist():
                yield self._read(values, row), 1
                row += 1

    def record(self, number: int) -> Trajectory:
        """One row; its row group is read whole."""
        group = bisect_right(self._ends, number)
        first = self._ends[group - 1] if group else 0
        with self._lock:
            values = self._file.read_row_group(group).slice(number - first, 1).to_pylist()[0]
        return self._read(values, number)

    def may_hold(self, number: int, words: str) -> bool:
        """A row has to be decoded to know."""
        return True

    def _read(self, values: JSON, row: int) -> Trajectory:
        where = f"{self.path}: row {row}"
        try:
            decoded = {name: _decoded(name, value) for name, value in values.items() if value is not None}
        except ValueError as error:
            raise ValueError(f"{where}: a column holds text that is not JSON: {error}") from error
        return check(decoded, where)


def _decoded(column: str, value: Any) -> Any:
    if column in TEXT_COLUMNS or column == "tags":
        return value
    if isinstance(value, str):
        return json.loads(value)
    if isinstance(value, list):
        return [json.loads(part) if isinstance(part, str) else part for part in value]
    return value


def open_sources(path: Path) -> list[Source]:
    """The files behind a path: one .jsonl or .parquet, or those of a folder, rejects last.

    Raises ValueError for a path that holds no trajectories.
    """
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return [_open(path)]
    for ending in ("jsonl", "parquet"):
        found = [path / f"{name}.{ending}" for name in ("trajectories", "rejects")]
        if any(file.is_file() for file in found):
            return [_open(file) for file in found if file.is_file()]
    raise ValueError(f"{path} holds neither trajectories.jsonl nor trajectories.parquet, with rejects beside it or not")


def _open(path: Path) -> Source:
    match path.suffix:
        case ".jsonl":
            return Lines(path)
        case ".parquet":
            return Table(path)
    raise ValueError(f"{path}: a trajectory file ends in .jsonl or .parquet")
