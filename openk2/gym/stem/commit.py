"""What a reply commits to: one box, one "answer is", or nothing but the answer. A reply that hedges commits to nothing."""

from __future__ import annotations

import itertools
import re

from openk2.gym.stem.literal import literal
from openk2.gym.stem.tidy import tidy, unwrapped

MOST_CHARACTERS = 400  # of an answer; working may be longer

_MARKER = re.compile(r"\banswers?\s*(?:\*\*)?\s*(?:is\b|are\b|:|=)\s*:?(?:\*\*)?|####", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s*\{")
_CLAUSE_END = re.compile(r"[.,;:!?\n]")
_DOUBT = re.compile(
    r"\b(?:not|no|never|nor|neither|cannot|wrong|incorrect|false|doubt\w*|unlikely|maybe|perhaps|possibly|probably|might|could|may|"
    r"if|guess\w*|either|unless|except|or|between|than|least|most|minus|negative)\b|n['’]t\b",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:[A-Za-z][A-Za-z'’ ]{0,80},? )?(?:is|are|equals|get|gives|be|so|thus|hence|therefore|Therefore|So|Thus|Hence)[:,]? (?=\S)"
)


def committed(reply: str) -> str | None:
    """The text of the one answer, or None.

    Several boxes and several "answer is" count as one when all say the same. After the last of them nothing may follow but a unit.
    Without any, the reply is one line that holds the answer, perhaps after words that end in "is", "so" or the like.
    """
    answers = _boxed(reply)
    if answers is None:
        return None
    marked = _marked(reply)
    if marked is None:
        return None
    answers += marked
    if not answers:
        answers = _alone(reply)
    if not answers or any(not _same(answers[0], other) for other in answers[1:]):
        return None
    return answers[0] if 0 < len(answers[0]) <= MOST_CHARACTERS else None


def _boxed(reply: str) -> list[str] | None:
    """What the boxes hold, the last one with what follows it; None when one is left open or doubted."""
    found: list[str] = []
    end = 0
    while box := _BOX.search(reply, end):
        close = _closing(reply, box.end())
        if close is None or _doubted(reply, box.start()):
            return None
        found.append(unwrapped(reply[box.end() : close]))
        end = close + 1
    if found:
        rest = reply[end:].strip().lstrip("$*\\])").strip()
        tail = unwrapped(rest) if rest else ""
        if len(tail) > MOST_CHARACTERS:
            return None
        found[-1] = f"{found[-1]} {tail}".strip() if tail else found[-1]
        if len(found) > 1 and tail:
            return None
    return found


def _closing(text: str, start: int) -> int | None:
    """Where the brace that was opened before ``start`` is closed, within the length of an answer."""
    depth = 1
    for place in range(start, min(len(text), start + MOST_CHARACTERS)):
        escaped = text[place - 1] == "\\" and text[place - 2] != "\\"
        if text[place] in "{}" and not escaped:
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return place
    return None


def _marked(reply: str) -> list[str] | None:
    """What follows each "answer is" or "answer:" up to its line's end, the last one up to the reply's end; not if it is a box."""
    marks = list(_MARKER.finditer(reply))
    found: list[str] = []
    for mark, following in itertools.zip_longest(marks, marks[1:]):
        if _doubted(reply, mark.start()):
            return None
        text = reply[mark.end() : following.start() if following else len(reply)].strip()
        if following:
            text = text.partition("\n")[0]
        if len(text) > MOST_CHARACTERS and not _BOX.search(text):
            return None
        if text and not _BOX.search(text):
            found.append(unwrapped(text))
    return found


def _alone(reply: str) -> list[str]:
    text = unwrapped(reply)
    if "\n" in text or len(text) > MOST_CHARACTERS:
        return []
    lead = _LEAD.match(text)
    if lead is None:
        return [text]
    return [] if _DOUBT.search(lead.group()) else [unwrapped(text[lead.end() :])]


def _doubted(reply: str, place: int) -> bool:
    """Does the clause that ends here deny or doubt what follows?"""
    before = reply[max(0, place - 120) : place]
    return bool(_DOUBT.search(_CLAUSE_END.split(before)[-1]))


def _same(one: str, other: str) -> bool:
    one, other = tidy(one).replace(" ", ""), tidy(other).replace(" ", "")
    value = literal(one)
    return one == other or (value is not None and value == literal(other))
