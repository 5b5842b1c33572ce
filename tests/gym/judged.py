"""Replies judged by hand, and what each family's verifier says of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from openk2.schema import JSON, Task

HERE = Path(__file__).parent / "near_misses"


def _math(row: JSON) -> bool:
    from openk2.gym.math import read_arithmetic

    return read_arithmetic(row["reply"], row["payload"]) == row["payload"]["answer"]


def _logic(row: JSON) -> bool:
    from openk2.gym.logic import read_logic

    return read_logic(row["reply"], row["payload"]) == row["payload"]["answer"]


def _puzzles(row: JSON) -> bool:
    from openk2.gym.puzzles.family import verify

    task = Task("t", "puzzles", row["kind"], "train", row["payload"])
    return asyncio.run(verify(row["reply"], task)).passed


def _tables(row: JSON) -> bool:
    from openk2.gym.tables.family import verify

    return asyncio.run(verify(row["reply"], Task("t", "tables", "t", "train", row["payload"]))).passed


def _instructions(row: JSON) -> bool:
    from tests.gym.test_instructions_near_misses import accepted

    return accepted(row)


def _safety(row: JSON) -> bool:
    from tests.gym.test_safety import PAYLOADS, accepts

    return accepts(PAYLOADS[row["task"]], row["reply"])


def _stem(row: JSON) -> bool:
    from tests.gym.test_stem import judged, task

    return judged(row["reply"], task(**row["task"])).passed


def _faithfulness(row: JSON) -> bool:
    from tests.gym.test_faithfulness import accepts

    return accepts(row)


def _code(row: JSON) -> bool:
    from tests.gym.test_code import wrongly_judged

    return row["right"] != bool(wrongly_judged([row]))


def _writing(row: JSON) -> bool:
    from tests.gym.test_writing import accepts

    return accepts(row)


SAYS: dict[str, Callable[[JSON], bool]] = {
    "math": _math,
    "logic": _logic,
    "stem": _stem,
    "puzzles": _puzzles,
    "tables": _tables,
    "instructions": _instructions,
    "faithfulness": _faithfulness,
    "code": _code,
    "safety": _safety,
    "writing": _writing,
}


def rows(family: str) -> Iterator[JSON]:
    """The rows of a family's table."""
    for line in (HERE / f"{family}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "right" in row:
            yield row


def unexpected(family: str) -> list[JSON]:
    """The rows on which verifier and person differ, and that are not marked as known."""
    return [row for row in rows(family) if not row.get("known") and SAYS[family](row) != row["right"]]


def accuracy(family: str) -> dict[str, int]:
    """How many rows there are, how many of them right, and on how many verifier and person differ."""
    found = {"rows": 0, "right": 0, "false_accepts": 0, "false_rejects": 0}
    for row in rows(family):
        said = SAYS[family](row)
        found["rows"] += 1
        found["right"] += row["right"]
        found["false_accepts"] += said and not row["right"]
        found["false_rejects"] += row["right"] and not said
    return found
