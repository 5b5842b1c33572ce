"""Gates for a desk's tasks: the benchmark's own calls pass, again and again; whoever does less, or more, fails."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal

from openk2.schema import Score, Task
from openk2.worlds.neighbours.records import Records
from openk2.worlds.neighbours.tau2 import Domain, call_of, judge_desk, open_desk
from openk2.worlds.state import Rows

DeskGate = Literal["oracle", "replay", "idle", "part", "silent", "trespass"]


def failed_gates(domain: Domain, task: Task) -> list[DeskGate]:
    """The gates that the task fails.

    ``oracle``: the benchmark's calls with all facts said do not pass. ``replay``: the same calls end in other records or
    results. ``idle``: doing and saying nothing passes, so that the task proves nothing. ``part``: the calls without the
    last that writes pass. ``silent``: they pass without a fact said. ``trespass``: they pass with one more record changed.
    """
    plan, facts = task.payload["plan"], task.payload["facts"]
    failed: list[DeskGate] = []
    if not play(domain, task, plan, facts).passed:
        failed.append("oracle")
    if _remains(domain, task) != _remains(domain, task):
        failed.append("replay")
    if play(domain, task, [], []).passed:
        failed.append("idle")
    if _writes(domain, plan) and play(domain, task, _without_last_write(domain, plan), facts).passed:
        failed.append("part")
    if facts and play(domain, task, plan, []).passed:
        failed.append("silent")
    if play(domain, task, plan, facts, trespass=True).passed:
        failed.append("trespass")
    return failed


def writes(domain: Domain, task: Task) -> bool:
    """Whether the benchmark's own calls change records."""
    return _writes(domain, task.payload["plan"])


def play(
    domain: Domain, task: Task, plan: Iterable[Mapping[str, Any]], said: Sequence[str], *, trespass: bool = False
) -> Score:
    """Carry out a plan, say some words, and score it."""
    assert task.rubric is not None, "a desk's task has a rubric"
    desk = open_desk(domain, task.payload)
    with closing(desk.records):
        before = desk.records.rows()
        for step in plan:
            desk.run(call_of(step))
        if trespass:
            _change_another(before, desk.records)
        return judge_desk(task.rubric, before, desk, said)


def _remains(domain: Domain, task: Task) -> tuple[str, list[str]]:
    """What the benchmark's calls leave: the hash of the records, and every result."""
    desk = open_desk(domain, task.payload)
    with closing(desk.records):
        results = [desk.run(call_of(step)) for step in task.payload["plan"]]
        return desk.records.hash(), results


def _writes(domain: Domain, plan: Iterable[Mapping[str, Any]]) -> bool:
    return any(domain.tools[step["tool"]].writes for step in plan)


def _without_last_write(domain: Domain, plan: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    last = max(i for i, step in enumerate(plan) if domain.tools[step["tool"]].writes)
    return [*plan[:last], *plan[last + 1 :]]


def _change_another(before: Rows, records: Records) -> None:
    """Change a record that was as it is from the start."""
    now = records.rows()
    entity, key = next((e, k) for e, rows in before.items() for k, row in rows.items() if now[e][k] == row)
    records.put(entity, key, {**json.loads(before[entity][key]["record"]), "touched": True})
