"""Trajectories as parquet: the same columns, nested ones in Arrow's JSON type.

`datasets` reads that type as its ``Json`` feature and gives back the very objects. A struct column would fill every
key that any record has with null in all others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openk2.schema import JSON

ROWS_PER_GROUP = 500  # a reader who wants one row decodes a group
_TEXT = ("id", "split", "kind", "stage", "reason")
_LISTS = ("messages", "tools", "calls")
_OBJECTS = ("rubric", "score", "agent", "user", "state", "provenance", "task")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXT),
        ("tags", pa.list_(pa.string())),
        ("seed", pa.int64()),
        *((name, pa.list_(pa.json_())) for name in _LISTS),
        *((name, pa.json_()) for name in _OBJECTS),
    ]
)


class Writer:
    """One parquet file, filled group by group."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._rows: list[JSON] = []

    def write(self, record: JSON) -> None:
        """Add a record. Raises ValueError for a key that has no column."""
        if unknown := sorted(record.keys() - set(SCHEMA.names)):
            raise ValueError(f"{record['id']}: there is no column for {', '.join(unknown)}")
        self._rows.append(record)
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the footer."""
        if self._rows:
            self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write_table(pa.table([_column(field, self._rows) for field in SCHEMA], schema=SCHEMA))
        self._rows.clear()


def _column(field: pa.Field, rows: Iterable[JSON]) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    if field.name in _OBJECTS:
        return _json_array([None if value is None else json.dumps(value) for value in values])
    if field.name not in _LISTS:
        return pa.array(values, field.type)
    texts = pa.array(
        [None if value is None else [json.dumps(part) for part in value] for value in values], pa.list_(pa.string())
    )
    parts: Any = _json_array(texts.values)
    return pa.ListArray.from_arrays(texts.offsets, parts, mask=texts.is_null())


def _json_array(texts: Any) -> pa.Array:
    storage = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
    return pa.ExtensionArray.from_storage(pa.json_(), storage)
