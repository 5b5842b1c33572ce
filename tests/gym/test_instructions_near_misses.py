"""Replies judged by hand, right ones in unusual forms and near misses, against the checks, the content and the hack-check."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from openk2.gym.instructions.compose import is_honest
from openk2.gym.instructions.content import states
from openk2.gym.instructions.registry import CHECKS, constraint
from openk2.schema import JSON

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "near_misses" / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
]


def accepted(row: JSON) -> bool:
    if "check" in row:
        return constraint(row["check"]).holds(row["reply"])
    return states(row["reply"], row["content"]) if "content" in row else is_honest(row["reply"])


def test_every_row_is_judged_as_by_hand() -> None:
    wrong = [row for row in ROWS if accepted(row) != row["right"]]
    false_accepts = sum(not row["right"] for row in wrong)
    print(f"{len(ROWS)} rows, {false_accepts} false accepts, {len(wrong) - false_accepts} false rejects")
    assert [row for row in wrong if not row.get("known")] == []
    assert all(row in wrong for row in ROWS if row.get("known")), "a known fault is mended: take its mark away"


def test_the_table_is_broad() -> None:
    rights = Counter(row["right"] for row in ROWS)
    assert len(ROWS) >= 200
    assert min(rights.values()) > len(ROWS) / 3
    assert {row["check"]["check"] for row in ROWS if "check" in row} == set(CHECKS)
