"""Tables as text: Markdown, CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from openk2.gym.tables.data import Table

Layout = Literal["markdown", "csv", "json"]


def rendered(tables: Sequence[Table], layout: Layout) -> str:
    """The tables one after the other, each under its name."""
    if layout == "json":
        lines = [f"{json.dumps(table.noun.many)}: [\n{_objects(table)}\n]" for table in tables]
        return "{" + ",\n".join(lines) + "}"
    write = _markdown if layout == "markdown" else _csv
    return "\n\n".join(write(table) for table in tables)


def _objects(table: Table) -> str:
    return ",\n".join(json.dumps(dict(zip(table.columns, row, strict=True))) for row in table.rows)


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return f"### {table.noun.many}\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _csv(table: Table) -> str:
    return f"{table.noun.many}.csv\n" + "\n".join(",".join(map(str, line)) for line in (table.columns, *table.rows))
