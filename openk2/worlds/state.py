"""The state behind the tools: rows in an in-memory SQLite database."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openk2.schema import JSON
from openk2.worlds.spec import App, Entity

Filter = tuple[str, str, Any]  # field, comparison (=, >= or <=), value
Rows = dict[str, dict[str, dict[str, Any]]]  # entity name → key → field → value (key included)
canonical = json.JSONEncoder(sort_keys=True).encode
MEASURES = {"count": "COUNT", "sum": "SUM", "mean": "AVG", "min": "MIN", "max": "MAX"}


class State:
    """Tables of one episode of ``app``. ``fresh`` lists, per entity, the keys that new records will take.

    An ``image`` of the same rows, which an earlier state gave, spares making the tables again.
    """

    def __init__(
        self, app: App, rows: Mapping[str, list[JSON]], fresh: Mapping[str, list[str]], image: bytes | None = None
    ) -> None:
        self.app = app
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        if image is not None:
            self._database.deserialize(image)
            self._fresh = {name: list(keys) for name, keys in fresh.items()}
        self._database.execute("BEGIN")  # one transaction for the episode: no commit per statement
        if image is not None:
            return
        for entity in app.entities:
            columns = ", ".join(f'"{f.name}" {"INTEGER" if f.is_number else "TEXT"} NOT NULL' for f in entity.fields)
            self._database.execute(
                f'CREATE TABLE "{entity.name}" ({columns}, PRIMARY KEY ("{entity.key}")) WITHOUT ROWID'
            )
        self._fill(rows, fresh)

    def _fill(self, rows: Mapping[str, list[JSON]], fresh: Mapping[str, list[str]]) -> None:
        for entity in self.app.entities:
            self._insert(entity, rows.get(entity.name, ()))
        self._fresh = {name: list(keys) for name, keys in fresh.items()}

    def get(self, entity: Entity, key: str) -> JSON | None:
        """The record, or None."""
        return self._first(entity, entity.key, key)

    def find(self, entity: Entity, field: str, value: str | int) -> JSON | None:
        """The record whose ``field`` is ``value`` (the lowest key, were there several), or None."""
        return self._first(entity, field, value)

    def _first(self, entity: Entity, field: str, value: str | int) -> JSON | None:
        cursor = self._database.execute(
            f'SELECT * FROM "{entity.name}" WHERE "{field}" = ? ORDER BY "{entity.key}" LIMIT 1', (value,)
        )
        row = cursor.fetchone()
        return None if row is None else dict(zip((f.name for f in entity.fields), row, strict=True))

    def insert(self, entity: Entity, row: JSON) -> None:
        """Add a record that has every field."""
        self._insert(entity, [row])

    def _insert(self, entity: Entity, rows: Iterable[JSON]) -> None:
        marks = ", ".join("?" * len(entity.fields))
        values = ([row[field.name] for field in entity.fields] for row in rows)
        self._database.executemany(f'INSERT INTO "{entity.name}" VALUES ({marks})', values)

    def update(self, entity: Entity, key: str, field: str, value: str | int) -> None:
        """Write one field of a record."""
        self._database.execute(f'UPDATE "{entity.name}" SET "{field}" = ? WHERE "{entity.key}" = ?', (value, key))

    def remove(self, entity: Entity, key: str) -> None:
        """Delete a record."""
        self._database.execute(f'DELETE FROM "{entity.name}" WHERE "{entity.key}" = ?', (key,))

    def holder(self, entity: Entity, key: str) -> Entity | None:
        """An entity one of whose records, other than this one, has a ref to this record; or None."""
        for other in self.app.entities:
            for field in other.fields:
                if field.ref == entity.name and self._is_held(other, field.name, key, other == entity):
                    return other
        return None

    def _is_held(self, other: Entity, field: str, key: str, is_same: bool) -> bool:
        query = f'SELECT 1 FROM "{other.name}" WHERE "{field}" = ?' + (f' AND "{other.key}" <> ?' if is_same else "")
        return self._database.execute(query, (key, key) if is_same else (key,)).fetchone() is not None

    def search(self, entity: Entity, filters: Sequence[Filter], order: str, limit: int) -> tuple[int, list[JSON]]:
        """How many records pass all filters, and the first ``limit`` by ``order`` (``-field`` from the highest), then key."""
        where, values = _where(filters)
        field, way = order.removeprefix("-") or entity.key, "DESC" if order.startswith("-") else "ASC"
        by = f'ORDER BY "{field}" {way}, "{entity.key}" LIMIT ?'
        (count,) = self._database.execute(f'SELECT COUNT(*) FROM "{entity.name}" {where}', values).fetchone()
        rows = self._database.execute(f'SELECT * FROM "{entity.name}" {where} {by}', (*values, limit)).fetchall()
        return count, [dict(zip((f.name for f in entity.fields), row, strict=True)) for row in rows]

    def measure(self, entity: Entity, filters: Sequence[Filter], measure: str, field: str) -> tuple[int, float | None]:
        """How many records pass all filters, and the ``measure`` of a number over them (None over nothing but a sum's 0)."""
        where, values = _where(filters)
        what = f'{MEASURES[measure]}("{field}")' if field else "NULL"
        query = f'SELECT COUNT(*), {what} FROM "{entity.name}" {where}'
        count, value = self._database.execute(query, values).fetchone()
        if measure == "mean" and count:
            return count, round(value, 2)
        return count, 0 if measure == "sum" and not count else value

    def next_key(self, entity: Entity) -> str | None:
        """The key for a new record, or None when no more can be made."""
        keys = self._fresh.get(entity.name)
        return keys.pop(0) if keys else None

    def rows(self) -> Rows:
        """All records: entity → key → fields."""
        return {entity.name: self.table(entity) for entity in self.app.entities}

    def table(self, entity: Entity) -> dict[str, JSON]:
        """The records of an entity: key → fields."""
        names = [field.name for field in entity.fields]
        cursor = self._database.execute(f'SELECT * FROM "{entity.name}" ORDER BY "{entity.key}"')
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}

    def image(self) -> bytes:
        """What makes the same tables in no time. Ends the episode's transaction: for states that are made for this."""
        self._database.execute("COMMIT")
        return self._database.serialize()

    def hash(self) -> str:
        """Hash of the sorted logical rows: equal states hash alike whatever their history."""
        return hashlib.sha256(canonical(self.rows()).encode()).hexdigest()

    def snapshot(self) -> JSON:
        """All there is to know, as plain JSON."""
        rows = {name: list(table.values()) for name, table in self.rows().items()}
        return {"rows": rows, "fresh": {name: list(keys) for name, keys in self._fresh.items()}}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of the same app."""
        for entity in self.app.entities:
            self._database.execute(f'DELETE FROM "{entity.name}"')
        self._fill(snapshot["rows"], snapshot["fresh"])

    def close(self) -> None:
        """Free the database."""
        self._database.close()


def _where(filters: Sequence[Filter]) -> tuple[str, tuple[Any, ...]]:
    """The clause and its values. A range passes over what is not set."""
    terms = [f'"{field}" {way} ?' + ("" if way == "=" else f" AND \"{field}\" <> ''") for field, way, _ in filters]
    return ("WHERE " + " AND ".join(terms) if terms else ""), tuple(value for *_, value in filters)
