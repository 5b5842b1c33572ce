"""The programmatic judge: a rubric against the final records, the call log and the final answer (K2 §3.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from openk2.schema import Rubric, RubricItem, Score
from openk2.worlds.simulator import Called
from openk2.worlds.state import Rows

THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
RUNS_ON_BEFORE = re.compile(r"(?:[\w@]|\w[-.:])\Z")
RUNS_ON_AFTER = re.compile(r"\w|[-.:@]\w")


def mentions(text: str, value: str | int) -> bool:
    """Whether ``text`` names ``value`` as a whole, in any case; 1,250 counts as 1250, and 84 is not in 184 or 84.5."""
    if isinstance(value, int):
        text = THOUSANDS.sub("", text)
    text, word = text.lower(), str(value).lower()
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not RUNS_ON_BEFORE.search(text[max(start - 2, 0) : start]) and not RUNS_ON_AFTER.match(text[end : end + 2]):
            return True
        start = text.find(word, start + 1)
    return False


def judge(rubric: Rubric, before: Rows, after: Rows, log: Sequence[Called], answers: str | Sequence[str]) -> Score:
    """Score an episode: 1 exactly when every item holds.

    Otherwise the weight of the achievements that hold over that of all. Only what cannot be had by doing or claiming
    nothing is an achievement: a change of state, a call, a fact that a tool has shown. A broken guard (a call that is
    forbidden, a record that should not have changed) leaves 0. Several ``answers`` are those of several turns: a fact
    says which it belongs to, or means the last. Raises ValueError for an item of an unknown form.
    """
    episode = _Episode(before, after, log, answers)
    parts = {item.name: float(_holds(item, episode)) for item in rubric.items}
    if all(parts.values()):
        return Score(1.0, parts)
    if any(_is_guard(item) and not parts[item.name] for item in rubric.items):
        return Score(0.0, parts)
    weights = {item.name: item.weight for item in rubric.items if not _is_guard(item)}
    earned = sum(item.weight * parts[item.name] for item in rubric.items if _is_achievement(item))
    return Score(min(earned / sum(weights.values()), 0.9), parts)


def passes(rubric: Rubric, before: Rows, after: Rows, log: Sequence[Called], answers: str | Sequence[str]) -> bool:
    """Whether ``judge`` would give 1: it looks from the last item on, and no further than the first that does not hold."""
    episode = _Episode(before, after, log, answers)
    return all(_holds(item, episode) for item in reversed(rubric.items))


class _Episode:
    """What items are checked against."""

    def __init__(self, before: Rows, after: Rows, log: Sequence[Called], answers: str | Sequence[str]) -> None:
        self.before, self.after, self.log = before, after, log
        self.answers = [answers] if isinstance(answers, str) else answers

    @cached_property
    def shown(self) -> list[str]:
        """What the tools answered."""
        return [json.dumps(called.result, ensure_ascii=False) for called in self.log]


def _is_guard(item: RubricItem) -> bool:
    return item.check == "forbid" or "only" in item.spec


def _is_achievement(item: RubricItem) -> bool:
    return not _is_guard(item) and (item.check != "fact" or bool(item.spec.get("grounded")))


def _holds(item: RubricItem, episode: _Episode) -> bool:
    match item.check:
        case "state":
            return _state_holds(item.spec, episode.before, episode.after)
        case "call":
            return any(not called.failed and _matches(item.spec, called) for called in episode.log)
        case "forbid":
            return not any(_matches(item.spec, called) for called in episode.log)
        case "fact":
            turn = item.spec.get("turn", len(episode.answers) - 1)
            return 0 <= turn < len(episode.answers) and _fact_holds(item.spec, episode.shown, episode.answers[turn])
    raise ValueError(f"rubric item {item.name!r}: a {item.check} item needs a judging model")


def _state_holds(spec: Mapping[str, Any], before: Rows, after: Rows) -> bool:
    if "only" in spec:
        allowed = {(entity, key) for entity, key in spec["only"]}
        return _changed(before, after) <= allowed
    row = after[spec["entity"]].get(spec["key"])
    if spec.get("gone") or row is None:
        return row is None and bool(spec.get("gone"))
    if "has" in spec:
        return all(row[name] == value for name, value in spec["has"].items())
    old = before[spec["entity"]].get(spec["key"], {})
    rest = all(row[name] == value for name, value in old.items() if name != spec["field"])
    return rest and bool(row[spec["field"]] == spec["equals"])


def _changed(before: Rows, after: Rows) -> set[tuple[str, str]]:
    """The records that differ, came or went."""
    return {
        (entity, key)
        for entity, old in before.items()
        if (rows := after[entity]) != old
        for key in rows.keys() | old.keys()
        if rows.get(key) != old.get(key)
    }


def _matches(spec: Mapping[str, Any], called: Called) -> bool:
    wanted = spec.get("arguments", {})
    given = called.arguments or {}
    return called.name == spec["tool"] and all(given.get(name) == value for name, value in wanted.items())


def _fact_holds(spec: Mapping[str, Any], shown: Sequence[str], answer: str) -> bool:
    if not mentions(answer, spec["value"]) or any(mentions(answer, other) for other in spec.get("without", ())):
        return False
    return not spec.get("grounded") or any(mentions(result, spec["value"]) for result in shown)
