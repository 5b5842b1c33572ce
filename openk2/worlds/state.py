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


class Tables:
    """Databases that hold the same rows: each is lent to one state at a time, and rolled back when that is done with it.

    To make tables costs more than most calls: what is played many times is filled once.
    """

    def __init__(self, app: App, rows: Mapping[str, list[JSON]]) -> None:
        self._app, self._rows = app, rows
        self.columns = {entity.name: [field.name for field in entity.fields] for entity in app.entities}
        self._idle: list[sqlite3.Connection] = []

    def take(self) -> sqlite3.Connection:
        """A database within a transaction, the rows as they are at the start."""
        database = self._idle.pop() if self._idle else self._fill()
        database.execute("BEGIN")
        return database

    def give_back(self, database: sqlite3.Connection) -> None:
        """Forget what the state did."""
        database.execute("ROLLBACK")
        self._idle.append(database)

    def _fill(self) -> sqlite3.Connection:
        # States live in one thread at a time, not always in the same.
        database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        database.execute("BEGIN")
        for entity in self._app.entities:
            columns = ", ".join(f'"{f.name}" {"INTEGER" if f.is_number else "TEXT"} NOT NULL' for f in entity.fields)
            database.execute(f'CREATE TABLE "{entity.name}" ({columns}, PRIMARY KEY ("{entity.key}")) WITHOUT ROWID')
            _insert(database, entity, self._rows.get(entity.name, ()))
        database.execute("COMMIT")
        return database

    def __del__(self) -> None:
        """Free the databases."""
        for database in self._idle:
            database.close()


class State:
    """Tables of one episode of ``app``. ``fresh`` lists, per entity, the keys that new records will take."""

    def __init__(self, app: App, rows: Mapping[str, list[JSON]] | Tables, fresh: Mapping[str, list[str]]) -> None:
        self.app = app
        self._tables = rows if isinstance(rows, Tables) else Tables(app, rows)
        self._database = self._tables.take()  # in one transaction: no commit per statement
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
        return None if row is None else dict(zip(self._tables.columns[entity.name], row, strict=True))

    def insert(self, entity: Entity, row: JSON) -> None:
        """Add a record that has every field."""
        _insert(self._database, entity, [row])

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
        names = self._tables.columns[entity.name]
        return count, [dict(zip(names, row, strict=True)) for row in rows]

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
        names = self._tables.columns[entity.name]
        cursor = self._database.execute(f'SELECT * FROM "{entity.name}" ORDER BY "{entity.key}"')
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}

    def hash(self) -> str:
        """Hash of the sorted logical rows: equal states hash alike whatever their history."""
        return hash_of(self.rows())

    def snapshot(self) -> JSON:
        """All there is to know, as plain JSON."""
        rows = {name: list(table.values()) for name, table in self.rows().items()}
        return {"rows": rows, "fresh": {name: list(keys) for name, keys in self._fresh.items()}}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of the same app."""
        for entity in self.app.entities:
            self._database.execute(f'DELETE FROM "{entity.name}"')
            _insert(self._database, entity, snapshot["rows"].get(entity.name, ()))
        self._fresh = {name: list(keys) for name, keys in snapshot["fresh"].items()}

    def close(self) -> None:
        """Give the database back."""
        self._tables.give_back(self._database)


def hash_of(rows: Rows) -> str:
    """Equal states hash alike whatever their history."""
    return hashlib.sha256(canonical(rows).encode()).hexdigest()


def _insert(database: sqlite3.Connection, entity: Entity, rows: Iterable[JSON]) -> None:
    marks = ", ".join("?" * len(entity.fields))
    values = ([row[field.name] for field in entity.fields] for row in rows)
    database.executemany(f'INSERT INTO "{entity.name}" VALUES ({marks})', values)


def _where(filters: Sequence[Filter]) -> tuple[str, tuple[Any, ...]]:
    """The clause and its values. A range passes over what is not set."""
    terms = [f'"{field}" {way} ?' + ("" if way == "=" else f" AND \"{field}\" <> ''") for field, way, _ in filters]
    return ("WHERE " + " AND ".join(terms) if terms else ""), tuple(value for *_, value in filters)
