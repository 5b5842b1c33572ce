"""Declarations crawled from MCP servers, read from JSON Lines: normalised, with where they come from and under which licence.

A row is ``{server, license, category, name, description, inputSchema}``. K2 §3.1 begins its tool synthesis with 3000 such
declarations; here they are read from a path and never shipped.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from openk2.schema import JSON, ToolSpec
from openk2.worlds.mcp.declare import declare
from openk2.worlds.mcp.schemas import BadSchemaError

MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class CrawledTool:
    """A declaration and its source."""

    spec: ToolSpec
    server: str
    license: str
    category: str

    def to_json(self) -> JSON:
        """Plain JSON: the OpenAI shape of the tool, and the source beside it."""
        return {"tool": self.spec.to_json(), "server": self.server, "license": self.license, "category": self.category}


@dataclass(slots=True)
class Crawl:
    """What was read: the tools, how many of them were mended in which way, and how many rows were refused why."""

    tools: list[CrawledTool] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def report(self) -> JSON:
        """The counts, most frequent first."""
        return {
            "tools": len(self.tools),
            "mended": dict(self.mended.most_common()),
            "refused": dict(self.refused.most_common()),
        }


def read_crawled(path: Path) -> Crawl:
    """All rows of a ``.jsonl`` or ``.jsonl.gz`` file. A row that cannot be used is counted, by reason.

    Raises FileNotFoundError when there is no such file, ValueError for one that is no gzip though it is called so.
    """
    crawl, seen = Crawl(), set()
    for line in _lines(path):
        try:
            tool, mended = _tool(line)
        except BadSchemaError as bad:
            crawl.refused[bad.reason] += 1
            continue
        if (tool.server, tool.spec.name) in seen:
            crawl.refused["seen before"] += 1
            continue
        seen.add((tool.server, tool.spec.name))
        crawl.tools.append(tool)
        crawl.mended.update(mended.keys())
    return crawl


def _tool(line: bytes) -> tuple[CrawledTool, Counter[str]]:
    if len(line) >= MAX_LINE:
        raise BadSchemaError("too large")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise BadSchemaError("not JSON") from None
    if not isinstance(row, dict):
        raise BadSchemaError("not an object")
    spec, mended = declare(row.get("name"), row.get("description"), row.get("inputSchema"))
    return CrawledTool(spec, _word(row, "server"), _word(row, "license"), _word(row, "category")), mended


def _word(row: JSON, key: str) -> str:
    value: Any = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadSchemaError(f"no {key}")
    return value.strip()


def _lines(path: Path) -> Iterator[bytes]:
    file: IO[bytes]
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:  # type: ignore[assignment]
        try:
            while line := file.readline(MAX_LINE):
                whole = line
                while not line.endswith(b"\n") and (line := file.readline(MAX_LINE)):
                    pass  # the rest of a line that is refused for its length
                yield whole
        except (gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"{path}: no whole gzip file: {error}") from error
