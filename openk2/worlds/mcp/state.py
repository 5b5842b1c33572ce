"""State that a server keeps where others can see it: files, a git repository, an SQLite file, a knowledge graph.

Each kind is laid out from plain JSON before an episode and read back as rows for the judge, past the server: what a
server says of its state counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from openk2.worlds.state import Rows

MAX_TEXT = 1 << 20
GIT_SECONDS = 20.0
# A repository's own settings and hooks are programs of whoever wrote it.
GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "commit.gpgSign=false")
GIT_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "openk2", "GIT_AUTHOR_EMAIL": "openk2@localhost", "GIT_AUTHOR_DATE": "2025-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "openk2", "GIT_COMMITTER_EMAIL": "openk2@localhost",
    "GIT_COMMITTER_DATE": "2025-01-01T00:00:00Z",
}  # fmt: skip


class State(Protocol):
    """A kind of state at a place in the episode's folder."""

    def __init__(self, folder: Path) -> None: ...

    def lay_out(self, given: Any) -> None:
        """Make the state that an episode begins with."""
        ...

    def rows(self) -> Rows:
        """The state now, in the judge's form."""
        ...


class Files:
    """The folder ``files``: a ``file`` has ``text``, a ``folder`` the sorted ``names`` in it; keys are relative paths."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "files"

    def lay_out(self, given: Mapping[str, str]) -> None:
        """``given``: the text of each file, by relative path."""
        self.path.mkdir()
        _write_files(self.path, given)

    def rows(self) -> Rows:
        """Links are not followed: their text is where they point."""
        rows: Rows = {"file": {}, "folder": {}}
        for at, folders, files in os.walk(self.path):
            here = Path(at).relative_to(self.path).as_posix()
            links = [name for name in folders if (Path(at) / name).is_symlink()]
            rows["folder"][here] = {"path": here, "names": sorted(folders + files)}
            for name in files + links:
                key = (Path(at) / name).relative_to(self.path).as_posix()
                rows["file"][key] = {"path": key, "text": _text(Path(at) / name)}
        return rows


class Repository:
    """The git repository ``repository``.

    ``branch``: the ``subject`` of its last commit and ``num_commits``. ``committed``: the ``text`` of a file, by
    ``BRANCH:PATH``. ``head``: the ``branch`` that is checked out, empty for none. ``staged``: the paths that a commit would change.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "repository"

    def lay_out(self, given: Mapping[str, Any]) -> None:
        """``given``: ``commits``, each a message and the files it writes; ``files`` that are changed since."""
        self.path.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("config", "user.name", "openk2")
        self._git("config", "user.email", "openk2@localhost")
        for message, files in given["commits"]:
            _write_files(self.path, files)
            self._git("add", "--all")
            self._git("commit", "--quiet", "--message", message)
        _write_files(self.path, given.get("files", {}))

    def rows(self) -> Rows:
        """Asks git. Raises RuntimeError with git's own words when it fails."""
        rows: Rows = {"branch": {}, "committed": {}, "head": {}, "staged": {}}
        listed = self._git("for-each-ref", "--format=%(refname:short)%09%(contents:subject)", "refs/heads")
        for line in listed.splitlines():
            branch, subject = line.split("\t", 1)
            count = int(self._git("rev-list", "--count", f"refs/heads/{branch}"))
            rows["branch"][branch] = {"branch": branch, "subject": subject, "num_commits": count}
            for path in self._names("ls-tree", "-r", "-z", "--name-only", f"refs/heads/{branch}"):
                key = f"{branch}:{path}"
                rows["committed"][key] = {"key": key, "text": self._git("show", f"refs/heads/{branch}:{path}")}
        rows["head"]["HEAD"] = {"key": "HEAD", "branch": self._git("branch", "--show-current").strip()}
        for path in self._names("diff", "--cached", "-z", "--name-only", "--no-ext-diff"):
            rows["staged"][path] = {"path": path}
        return rows

    def _names(self, *words: str) -> list[str]:
        return [name for name in self._git(*words).split("\0") if name]

    def _git(self, *words: str) -> str:
        done = subprocess.run(
            [*GIT, "-C", str(self.path), *words],
            capture_output=True, timeout=GIT_SECONDS, stdin=subprocess.DEVNULL, env={**os.environ, **GIT_ENV},
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"git {words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")


class Database:
    """The SQLite file ``data.db``: an entity for each table, a row for each record, by its first column."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "data.db"

    def lay_out(self, given: str) -> None:
        """``given``: the SQL that makes and fills the tables."""
        with closing(sqlite3.connect(self.path)) as database:
            database.executescript(given)

    def rows(self) -> Rows:
        """Reads the file without locking out the server."""
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            tables = database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
            return {name: self._table(database, name) for (name,) in tables.fetchall()}

    def _table(self, database: sqlite3.Connection, name: str) -> dict[str, dict[str, Any]]:
        quoted = name.replace('"', '""')
        return {str(row[0]): dict(row) for row in database.execute(f'SELECT * FROM "{quoted}"')}


class Graph:
    """The memory server's file ``memory.jsonl``: an ``entity`` by name, a ``relation`` by ``FROM RELATION TO``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "memory.jsonl"

    def lay_out(self, given: list[dict[str, Any]]) -> None:
        """``given``: the entities and relations, as the server writes them."""
        self.path.write_text("".join(json.dumps(record) + "\n" for record in given), encoding="utf-8")

    def rows(self) -> Rows:
        """Raises ValueError when the file is no JSON Lines."""
        rows: Rows = {"entity": {}, "relation": {}}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line) if line.strip() else {}
            if record.get("type") == "entity":
                rows["entity"][record["name"]] = record
            elif record.get("type") == "relation":
                key = f"{record['from']} {record['relationType']} {record['to']}"
                rows["relation"][key] = {"key": key, **record}
        return rows


def _write_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _text(path: Path) -> str:
    """A file's text; of what is large or no text, the hash."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "no regular file"
    if path.stat().st_size <= MAX_TEXT:
        data = path.read_bytes()
        try:
            return data.decode()
        except UnicodeDecodeError:
            return f"sha256 {hashlib.sha256(data).hexdigest()}"
    with path.open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
