"""What a reply has to say, beside its form: facts, each in a line or sentence of its own, and nothing that contradicts them.

A form without its content earns nothing, so every generated task states facts. An entry is a list of terms; the first is its
head (a name that no other entry has), the others are what must be said of it. Reading is strict, as the task's request says:

- a line, sentence or table row that names a number or one of those terms is a statement: it names exactly one head, all terms of that
  head's entry, no term of another, no other number, and it denies and doubts nothing, as no line does that names a head;
- each entry is stated; where the order matters, in that order; what is to be left out is nowhere;
- the request is not said again.

A JSON reply is read by its elements: each key with its value, each element of an array.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from openk2.gym.instructions.checks.formats import json_of
from openk2.gym.instructions.numerals import VALUES, WORDS
from openk2.gym.instructions.reading import fold, lines, sentences

_DOUBT = re.compile(
    r"\b(?:not|no|never|neither|nor|none|cannot|without|maybe|perhaps|possibly|probably|might|could|may|either|or|unless|except|"
    r"supposedly|allegedly|unclear|unknown|unsure|false|wrong|incorrect|untrue|instead|formerly|almost|nearly|roughly|"
    r"approximately|whether)\b|n't\b|\?|\bat (?:least|most)\b|\b(?:more|less|fewer|other|rather) than\b"
    rf"|\b(?:over|under|up to|about|around|some) (?:\d|(?:{'|'.join(sorted(WORDS))})\b)"
)
_MARKER = re.compile(
    r"\s*(?:[-*+•>#~|=]+\s*)*(?:(?:(?:section|part|step|paragraph|item|entry|day|point|chapter)\s+\d{1,3}\b[.):]?)|\d{1,3}[.):](?=\s|$))?",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"(?P<digits>(?:(?<!\w)[-−])?\d+(?:[.,:/]\d+)*%?)(?!\w)|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)?)|(?P<odd>\w*\d\w*)"
)


def states(reply: str, content: Mapping[str, Any]) -> bool:
    """Whether the reply says what ``content`` demands: ``entries``, ``ordered``, ``absent``, ``unsaid``.

    Where there is a ``divider``, each of the parts that it divides the reply into has to.
    """
    parts = reply.split(content["divider"]) if "divider" in content else [reply]
    return all(_part_states(part, content) for part in parts)


def _part_states(reply: str, content: Mapping[str, Any]) -> bool:
    text = fold(reply)
    if any(fold(sentence) in text for sentence in content["unsaid"]):
        return False
    named = set(re.findall(r"[^\W\d_]+", text))
    if any(fold(name) in named for name in content["absent"]):
        return False
    entries = [[fold(term) for term in entry] for entry in content["entries"]]
    stated: list[int] = []
    for unit in units(reply):
        place = _entry_of(unit, entries)
        if place is None:
            return False
        if place >= 0 and place not in stated:
            stated.append(place)
    return stated == list(range(len(entries))) if content["ordered"] else len(stated) == len(entries)


def _entry_of(unit: str, entries: list[list[str]]) -> int | None:
    """The number of the entry that a unit states; -1 for none at all, None for a statement that is not right."""
    said, numbers = _said(unit)
    terms = {term for entry in entries for term in entry[1:] if not term.isdecimal()}
    heads = [place for place, entry in enumerate(entries) if entry[0] in said]
    doubted = _DOUBT.search(fold(unit)) is not None
    if not numbers and not said & terms:
        return None if heads and doubted else -1
    if len(heads) != 1 or doubted:
        return None
    entry = entries[heads[0]]
    whole = {term for term in entry if not term.isdecimal()} <= said
    exact = numbers == {term for term in entry if term.isdecimal()}
    return heads[0] if whole and exact and not said & (terms - set(entry)) else None


def units(reply: str) -> Iterator[str]:
    """What can state something: elements of JSON, or the sentences and half sentences of every line."""
    value = json_of(reply)
    if isinstance(value, dict | list):
        yield from _elements(value)
        return
    for line in lines(reply):
        for sentence in sentences(line[_MARKER.match(line).end() :]):  # type: ignore[union-attr]  # it matches all
            yield from sentence.split(";")


def _elements(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        part = left.pop(0)
        if isinstance(part, list):
            left = part + left
        elif isinstance(part, dict) and part is value:
            for key, inner in part.items():
                if isinstance(inner, list):
                    left += inner
                else:
                    yield f"{key} {_flat(inner)}"
        else:
            yield _flat(part)


def _flat(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _said(unit: str) -> tuple[set[str], set[str]]:
    """The words of a unit, and its numbers as digits, spelled ones too; "one" alone is a word."""
    words: list[str] = []
    numbers: set[str] = set()
    spoken: list[str] = []
    for match in _TOKEN.finditer(fold(unit).replace("_", " ") + " ."):
        word = match["word"]
        if word in WORDS or (word == "and" and spoken and spoken[-1] == "hundred"):
            spoken.append(word)
            continue
        numbers |= _spelled(spoken)
        spoken = []
        if word is not None:
            words.append(word.removesuffix("'s"))
        else:
            numbers.add(_plain(match[0]))
    numbers |= _spelled(spoken)
    return set(words), numbers


def _spelled(spoken: list[str]) -> set[str]:
    while spoken and spoken[-1] == "and":
        spoken = spoken[:-1]
    if not spoken or spoken == ["one"]:
        return set()
    value = VALUES.get(" ".join(spoken))
    return {" ".join(spoken) if value is None else str(value)}


def _plain(number: str) -> str:
    return str(int(number)) if number.isdecimal() and len(number) < 10 else number
