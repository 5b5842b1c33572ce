"""The records of one episode as rows of an in-memory SQLite database: entity, key, record.

A record gains fields on its way (a cancelled order, the reason), and nests: it is one column of JSON.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping

from openk2.schema import JSON
from openk2.worlds.state import Rows, canonical

Data = Mapping[str, Mapping[str, JSON]]  # entity → key → record


class Records:
    """Rows to read and to write. What is read is a copy: a change counts once it is ``put``."""

    def __init__(self, data: Data) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.execute(
            "CREATE TABLE records (entity TEXT, key TEXT, record TEXT NOT NULL, PRIMARY KEY (entity, key)) WITHOUT ROWID"
        )
        rows = ((entity, key, canonical(record)) for entity, table in data.items() for key, record in table.items())
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def copy(self) -> Records:
        """The same records, to change apart from these."""
        other = Records({})
        self._database.backup(other._database)
        return other

    def get(self, entity: str, key: str) -> JSON | None:
        """The record, or None."""
        row = self._database.execute(
            "SELECT record FROM records WHERE entity = ? AND key = ?", (entity, key)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def find(self, entity: str, wanted: Mapping[str, str]) -> list[JSON]:
        """The records with these texts, in any case, by path ("name.zip"); in the order of their keys."""
        tests = "".join(" AND lower(json_extract(record, ?)) = lower(?)" for _ in wanted)
        values = [text for path, value in wanted.items() for text in (f"$.{path}", value)]
        query = f"SELECT record FROM records WHERE entity = ?{tests} ORDER BY key"
        return [json.loads(record) for (record,) in self._database.execute(query, (entity, *values))]

    def put(self, entity: str, key: str, record: JSON) -> None:
        """Write a record, a new one or in place of the old."""
        self._database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (entity, key, canonical(record)))

    def rows(self) -> Rows:
        """All records, as the judge compares them: entity → key → {"record": its JSON, with sorted keys}."""
        out: Rows = {}
        for entity, key, record in self._database.execute("SELECT * FROM records ORDER BY entity, key"):
            out.setdefault(entity, {})[key] = {"record": record}
        return out

    def hash(self) -> str:
        """Hash of the sorted rows: equal states hash alike whatever their history."""
        digest = hashlib.sha256()
        for row in self._database.execute("SELECT * FROM records ORDER BY entity, key"):
            digest.update("\0".join(row).encode() + b"\n")
        return digest.hexdigest()

    def close(self) -> None:
        """Free the database."""
        self._database.close()
