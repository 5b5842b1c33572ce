"""Answers kept in SQLite, by the hash of what was asked."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from openk2.schema import JSON

LOCK_S = 30.0  # another process may be writing
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def key_of(body: JSON) -> str:
    """Hash of a request's body, whatever the order of its keys."""
    return hashlib.sha256(canonical(body).encode()).hexdigest()


class Cache:
    """One table, key → answer's body. Only hashes of what was asked are kept, so no prompt lies in the file."""

    def __init__(self, path: Path) -> None:
        """Open or make ``path``. Raises ValueError for a file that is no such cache."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=LOCK_S, isolation_level=None)
        try:
            # Answers survive a crash of the program; one of the machine may cost the last few.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, body TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise ValueError(f"{path} is no cache of answers: {error}; name another file or remove it") from error

    def get(self, key: str) -> Any:
        """The answer's body, or None."""
        row = self._database.execute("SELECT body FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, body: Any) -> None:
        """Keep an answer. The first one stays: a later run must see what an earlier one saw."""
        self._database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, json.dumps(body)))

    def close(self) -> None:
        """Close the file."""
        self._database.close()
