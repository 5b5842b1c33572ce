"""tau2-bench's retail and mock domains: policy and records of a folder, and its tasks in our terms.

A task's success is exact: the records must end as the benchmark's own calls leave them, the facts that are to be
communicated must be said, and no writing tool may have been used that those calls do not use. Statements for a judging
model stay in the payload; nothing here decides them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.schema import JSON, Message, Rubric, RubricItem, Score, Task, ToolCall
from openk2.worlds.judge import THOUSANDS, judge
from openk2.worlds.neighbours import mock, retail
from openk2.worlds.neighbours.desk import Desk, Tool
from openk2.worlds.neighbours.mapped import Mapped, Unmappable, map_items, read_file
from openk2.worlds.neighbours.records import Records
from openk2.worlds.simulator import Called
from openk2.worlds.state import Rows, canonical

TOOLS: Mapping[str, Mapping[str, Tool]] = {"retail": retail.TOOLS, "mock": mock.TOOLS}
DECIMALS = re.compile(r"\d+\.\d+")
DEFAULT_BASIS = ("DB", "COMMUNICATE")


@dataclass(frozen=True, slots=True)
class Domain:
    """A desk to open: what its agent must follow, what is on record, what can be done."""

    name: str
    policy: str
    records: Records
    tools: Mapping[str, Tool]


def read_domain(folder: Path) -> Domain:
    """The domain of a folder called as it is, of ``policy.md`` and ``db.json``. Raises ValueError for an unknown one."""
    if folder.name not in TOOLS:
        raise ValueError(f"no tools for the domain {folder.name!r}: there are {', '.join(TOOLS)}")
    policy = (folder / "policy.md").read_text(encoding="utf-8")
    return Domain(folder.name, policy, Records(read_file(folder / "db.json")), TOOLS[folder.name])


def read_tasks(domain: Domain, path: Path) -> Mapped:
    """The tasks of a ``tasks.json`` of the domain."""
    return map_items(f"tau2_{domain.name}", read_file(path), lambda item: _Reading(domain, item).task())


# ---------------------------------------------------------------------------------------------
# Playing a task
# ---------------------------------------------------------------------------------------------


def open_desk(domain: Domain, payload: Mapping[str, Any]) -> Desk:
    """The desk as the task finds it: the task's own records added, and what happened before its dialogue done."""
    desk = Desk(domain.tools, domain.records.copy())
    for entity, rows in payload["data"].items():
        for key, changes in rows.items():
            desk.records.put(entity, key, {**(desk.records.get(entity, key) or {}), **changes})
    for step in payload["setup"]:
        desk.run(call_of(step))
    desk.log.clear()
    return desk


def call_of(step: Mapping[str, Any]) -> ToolCall:
    """A step of a plan as a call."""
    return ToolCall("", step["tool"], json.dumps(step["arguments"]))


def judge_desk(rubric: Rubric, before: Rows, desk: Desk, said: Iterable[str]) -> Score:
    """Score an episode: ``before`` are the rows it began with, ``said`` is all that the assistant told the user."""
    return judge(rubric, before, desk.records.rows(), desk.log, plain(" ".join(said)))


def plain(text: str) -> str:
    """The text on one line, with every number in its shortest form: 1,131.10 is 1131.1, and 60.00 is 60."""
    one_line = " ".join(text.split())
    return DECIMALS.sub(lambda found: found[0].rstrip("0").rstrip("."), THOUSANDS.sub("", one_line))


# ---------------------------------------------------------------------------------------------
# Reading one item
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reading:
    domain: Domain
    item: JSON

    def task(self) -> Task:
        """The task. Raises ``Unmappable``."""
        self._check_sides()
        criteria, initial = self._criteria, self.item.get("initial_state") or {}
        history = initial.get("message_history") or []
        payload: JSON = {
            "domain": self.domain.name,
            "scenario": self.item["user_scenario"],
            "history": [_message(each).to_json() for each in history],
            "data": (initial.get("initialization_data") or {}).get("agent_data") or {},
            "setup": [
                *(
                    {"tool": a["func_name"], "arguments": a["arguments"]}
                    for a in initial.get("initialization_actions") or []
                ),
                *({"tool": c["name"], "arguments": c["arguments"]} for m in history for c in m.get("tool_calls") or []),
            ],
            "plan": [{"tool": a["name"], "arguments": a["arguments"]} for a in criteria.get("actions") or []],
            "facts": list(criteria.get("communicate_info") or []),
            "statements": list(criteria.get("nl_assertions") or []),
        }
        for step in (*payload["setup"], *payload["plan"]):
            if step["tool"] not in self.domain.tools:
                raise Unmappable(f"calls {step['tool']}, which is no tool of the domain")
        if criteria.get("actions") is None and not payload["facts"]:
            asserted = bool(criteria.get("env_assertions"))
            raise Unmappable("names no calls that would do it" if asserted else "success is for a judging model alone")
        name = f"tau2_{self.domain.name}"
        return Task(f"{name}-{self.item['id']}", "tau2", name, "test", payload, self._rubric(payload))

    @property
    def _criteria(self) -> JSON:
        return self.item.get("evaluation_criteria") or {}

    def _check_sides(self) -> None:
        """Only the assistant's side has tools here."""
        initial = self.item.get("initial_state") or {}
        acts = [*(initial.get("initialization_actions") or []), *(self._criteria.get("env_assertions") or [])]
        if any(act["env_type"] != "assistant" for act in acts) or (initial.get("initialization_data") or {}).get(
            "user_data"
        ):
            raise Unmappable("needs tools on the user's side")

    def _rubric(self, payload: JSON) -> Rubric:
        desk = open_desk(self.domain, payload)
        with closing(desk.records):
            before = desk.records.rows()
            for step in payload["plan"]:
                desk.run(call_of(step))
            self._check_writes(payload["plan"], desk.log)
            after = desk.records.rows()
        facts = [RubricItem(f"says {fact}", "fact", {"value": plain(fact)}) for fact in payload["facts"]]
        return Rubric((*self._state(payload, before, after), *self._asserted(after), *facts, *self._called()))

    def _check_writes(self, plan: Sequence[Mapping[str, Any]], log: Sequence[Called]) -> None:
        """A write may be refused where another does it on the same record, which the first argument names."""
        done = {
            next(iter(step["arguments"].values()))
            for step, called in zip(plan, log, strict=True)
            if self.domain.tools[step["tool"]].writes and not called.failed
        }
        for step, called in zip(plan, log, strict=True):
            subject = next(iter(step["arguments"].values()), None)
            if self.domain.tools[step["tool"]].writes and called.failed and subject not in done:
                raise Unmappable(f"the benchmark's own {step['tool']} is refused: {called.result['error']}")

    @property
    def _basis(self) -> Sequence[str]:
        """What the benchmark rewards."""
        return self._criteria.get("reward_basis", DEFAULT_BASIS)

    def _state(self, payload: JSON, before: Rows, after: Rows) -> list[RubricItem]:
        if "DB" not in self._basis:
            return []
        return [*_ends_as(before, after), *_unused(self.domain.tools, payload["plan"])]

    def _asserted(self, after: Rows) -> list[RubricItem]:
        return [_assertion(each, after) for each in self._criteria.get("env_assertions") or []]

    def _called(self) -> list[RubricItem]:
        """The calls themselves, where the benchmark counts them."""
        if "ACTION" not in self._basis:
            return []
        items = []
        for number, action in enumerate(self._criteria.get("actions") or []):
            compared = action.get("compare_args")
            wanted = {k: v for k, v in action["arguments"].items() if compared is None or k in compared}
            items.append(RubricItem(f"call {number}", "call", {"tool": action["name"], "arguments": wanted}))
        return items


def _message(data: Mapping[str, Any]) -> Message:
    """A message of the benchmark's, whose calls are flat and whose tool results carry the call's id as their own."""
    calls = [ToolCall(call["id"], call["name"], json.dumps(call["arguments"])) for call in data.get("tool_calls") or []]
    call_id = data.get("id") if data["role"] == "tool" else None
    return Message(data["role"], data.get("content") or "", calls, call_id)


def _ends_as(before: Rows, after: Rows) -> list[RubricItem]:
    """Each record that changes, whole, and that no other does."""
    changed = [
        (entity, key)
        for entity, rows in after.items()
        for key, row in rows.items()
        if before.get(entity, {}).get(key) != row
    ]
    ends = [
        RubricItem(f"{entity} {key}", "state", {"entity": entity, "key": key, "has": after[entity][key]})
        for entity, key in changed
    ]
    return [*ends, RubricItem("nothing_else", "state", {"only": [list(each) for each in changed]})]


def _assertion(data: Mapping[str, Any], after: Rows) -> RubricItem:
    """A record as the benchmark's calls leave it, but for the status that is asserted."""
    if data["func_name"] != "assert_task_status" or not data.get("assert_value", True):
        raise Unmappable(f"asserts by {data['func_name']}, which is unknown here")
    key, status = data["arguments"]["task_id"], data["arguments"]["expected_status"]
    if key not in after["tasks"]:
        raise Unmappable("asserts about a task that is not there")
    record = canonical({**json.loads(after["tasks"][key]["record"]), "status": status})
    return RubricItem(f"asserts {key}", "state", {"entity": "tasks", "key": key, "has": {"record": record}})


def _unused(tools: Mapping[str, Tool], plan: Sequence[Mapping[str, Any]]) -> list[RubricItem]:
    """The writing tools that the benchmark's calls do not use."""
    used = {step["tool"] for step in plan}
    return [
        RubricItem(f"no {name}", "forbid", {"tool": name})
        for name, tool in tools.items()
        if tool.writes and name not in used
    ]
