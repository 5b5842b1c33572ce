"""What became of somebody's items: tasks, and the items that could not be one, each with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.schema import JSON, Task


class Unmappable(Exception):  # noqa: N818 - no error of the program: an item we have no task for
    """An item that cannot become a task; the text is the reason, in words that many items can share."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An item without a task."""

    id: str
    category: str
    reason: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """All items of a benchmark, in its order."""

    tasks: tuple[Task, ...]
    refused: tuple[Refused, ...]

    def __add__(self, other: Mapped) -> Mapped:
        return Mapped(self.tasks + other.tasks, self.refused + other.refused)

    def counts(self) -> dict[str, JSON]:
        """By category: ``items``, ``mapped``, and ``refused`` as {reason: count}."""
        out: dict[str, JSON] = {}
        for category in dict.fromkeys([item.kind for item in self.tasks] + [item.category for item in self.refused]):
            reasons = Counter(item.reason for item in self.refused if item.category == category)
            mapped = sum(task.kind == category for task in self.tasks)
            out[category] = {"items": mapped + reasons.total(), "mapped": mapped, "refused": dict(reasons)}
        return out


def map_items(category: str, items: Iterable[JSON], task_of: Callable[[JSON], Task]) -> Mapped:
    """Every item through ``task_of``, which raises ``Unmappable`` for what it has no task for.

    Raises ValueError for an item that lacks a field, and for an id that was there before.
    """
    tasks: list[Task] = []
    refused: list[Refused] = []
    seen: set[str] = set()
    for item in items:
        if not isinstance(item.get("id"), str) or item["id"] in seen:
            raise ValueError(f"{category}: every item needs an id of its own, got {item.get('id')!r}")
        seen.add(item["id"])
        try:
            tasks.append(task_of(item))
        except Unmappable as reason:
            refused.append(Refused(item["id"], category, str(reason)))
        except KeyError as missing:
            raise ValueError(f"{category}, item {item['id']}: has no {missing}") from missing
    return Mapped(tuple(tasks), tuple(refused))


def read_lines(path: Path) -> Iterator[JSON]:
    """The objects of a JSON Lines file. Raises ValueError naming the file and line that is none."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _object(line, f"{path}:{number}")


def read_file(path: Path) -> Any:
    """A JSON file. Raises ValueError naming one that is none."""
    return _parse(path.read_text(encoding="utf-8"), str(path))


def _object(text: str, where: str) -> JSON:
    value = _parse(text, where)
    if not isinstance(value, dict):
        raise ValueError(f"{where}: a JSON object stands on every line, got {text[:60]!r}")
    return value


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON: {error}") from error
