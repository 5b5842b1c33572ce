"""The programmatic judge: a rubric against the final records, the call log and the final answer (K2 §3.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from openk2.schema import Rubric, RubricItem, Score
from openk2.worlds.simulator import Called
from openk2.worlds.state import Rows

# Hyphens and spaces that do not break, as some write them in keys.
SAME = str.maketrans({"\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u00a0": " ", "\u202f": " "})
TOKEN = re.compile(r"\w+(?:[-.:@]\w+|,\d{3}\b)*")
MOST_STRAY = 3  # values that nothing has told of: more in all answers together is a list, not an answer
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
RUNS_ON_BEFORE = re.compile(r"(?:[\w@]|\w[-.:])\Z")
RUNS_ON_AFTER = re.compile(r"\w|[-.:@]\w")


def mentions(text: str, value: str | int | float) -> bool:
    """Whether ``text`` names ``value`` as a whole, in any case; 1,250 counts as 1250, and 84 is not in 184 or 84.5.

    12.5 is also 12.50, ``in_progress`` also "in progress".
    """
    text, word = _plain(text, isinstance(value, int | float)), str(value).translate(SAME).lower()
    words = {word}
    if isinstance(value, float):
        words |= {f"{value:.2f}", f"{value:g}"}
    elif isinstance(value, str):
        words.add(word.replace("_", " "))
    return any(_names(text, word) for word in words)


@lru_cache(maxsize=512)  # of an episode every fact reads the same few
def _plain(text: str, numbers: bool) -> str:
    plain = text.translate(SAME).lower()
    return THOUSANDS.sub("", plain) if numbers else plain


def _names(text: str, word: str) -> bool:
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not RUNS_ON_BEFORE.search(text[max(start - 2, 0) : start]) and not RUNS_ON_AFTER.match(text[end : end + 2]):
            return True
        start = text.find(word, start + 1)
    return False


def strays(text: str, known: Collection[str], keys: Collection[str]) -> set[str]:
    """The records' keys and numbers in a text that are not among the known ones."""
    found = TOKEN.findall(text.translate(SAME))
    tokens = {THOUSANDS.sub("", token) if "," in token else token for token in found}
    return {token for token in tokens if (token in keys or token[0].isdigit()) and token not in known}


def judge(
    rubric: Rubric,
    before: Rows,
    after: Rows,
    log: Sequence[Called],
    answers: str | Sequence[str],
    heard: Sequence[int] | None = None,
) -> Score:
    """Score an episode: 1 exactly when every item holds.

    Otherwise the weight of the achievements that hold over that of all. Only what cannot be had by doing or claiming
    nothing is an achievement: a change of state, a call, a fact that a tool has shown. A broken guard (a call that is
    forbidden, a record that should not have changed) leaves 0. Several ``answers`` are those of several turns: a fact
    says which it belongs to, or means the last. ``heard`` says how many calls there were before each (all, where it is
    None): what a tool shows later is no ground. Raises ValueError for an item of an unknown form.
    """
    episode = _Episode(before, after, log, answers, heard)
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

    def __init__(
        self,
        before: Rows,
        after: Rows,
        log: Sequence[Called],
        answers: str | Sequence[str],
        heard: Sequence[int] | None = None,
    ) -> None:
        self.before, self.after, self.log, self._heard = before, after, log, heard
        self.answers = [answers] if isinstance(answers, str) else answers

    def shown(self, turn: int) -> list[str]:
        """What the tools had answered before an answer."""
        return self._results if self._heard is None else self._results[: self._heard[turn]]

    @cached_property
    def _results(self) -> list[str]:
        return [json.dumps(called.result, ensure_ascii=False) for called in self.log]

    @cached_property
    def keys(self) -> set[str]:
        """Of all records there were or are."""
        return {key for rows in (self.before, self.after) for entity in self.before for key in rows[entity]}


def _is_guard(item: RubricItem) -> bool:
    return item.check == "forbid" or "only" in item.spec or "touched" in item.spec


def _is_achievement(item: RubricItem) -> bool:
    return not _is_guard(item) and (item.check != "fact" or bool(item.spec.get("grounded")))


def _holds(item: RubricItem, episode: _Episode) -> bool:
    match item.check:
        case "state":
            if "touched" in item.spec:
                allowed = {tuple(place) for place in item.spec["touched"]}
                return all(called.touched <= allowed for called in episode.log)
            return _state_holds(item.spec, episode.before, episode.after)
        case "call":
            return any(not called.failed and _matches(item.spec, called) for called in episode.log)
        case "forbid":
            return not any(_matches(item.spec, called) for called in episode.log)
        case "fact":
            turn = item.spec.get("turn", len(episode.answers) - 1)
            if "known" in item.spec:
                text, known = "\n".join(episode.answers), set(item.spec["known"])
                return len(strays(text, known, episode.keys)) <= MOST_STRAY
            return 0 <= turn < len(episode.answers) and _fact_holds(item.spec, episode, turn)
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


def _fact_holds(spec: Mapping[str, Any], episode: _Episode, turn: int) -> bool:
    answer = episode.answers[turn]
    if not mentions(answer, spec["value"]) or any(mentions(answer, other) for other in spec.get("without", ())):
        return False
    return not spec.get("grounded") or any(mentions(result, spec["value"]) for result in episode.shown(turn))
