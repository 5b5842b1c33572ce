"""What a reply commits to: one box, one "answer is", or nothing but the answer. A reply that hedges commits to nothing."""

from __future__ import annotations

import itertools
import re

from openk2.gym.stem.literal import literal
from openk2.gym.stem.tidy import tidy, unwrapped

MOST_CHARACTERS = 400  # of an answer; working may be longer

_MARKER = re.compile(r"\banswers?\s{0,3}(?:\*\*)?\s{0,3}(?:is\b|are\b|[:：=])\s{0,3}:?(?:\*\*)?|####", re.IGNORECASE)
# Bold type, where it is not a power.
_BOLD = re.compile(r"(?<![\w)\]}])\*\*(?=\S)|(?<=\S)\*\*(?![\w(\[{])")
_BOX = re.compile(r"\\boxed\s{0,3}\{")
_CLOSERS = re.compile(r"^(?:\s|\$|\*|\\\]|\\\)|\))+")  # of the formula or emphasis that the box stands in
_CLAUSE_END = re.compile(r"[.,;:!?\n]")
_SENTENCE_END = re.compile(r"\.\s|\n")
# What turns the words after it round or makes them uncertain: close before the answer, or right before it.
_DOUBT = re.compile(
    r"(?:\b(?:not|never|nor|neither|cannot|doubt\w*|wrong|incorrect|false|unlikely|maybe|perhaps|possibly|probably|if|guess\w*|either|"
    r"unless|except|between)|n['’]t)(?:\W+\w+){0,3}\W*$|\b(?:might|could|may)(?:\W+\w+)?\W*$|\b(?:or|least|most|than|minus|negative|no)\W*$",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:[A-Za-z][A-Za-z'’,: ]{0,80} )?(?:is|are|equals|get|gives|be|so|thus|hence|therefore|Therefore|So|Thus|Hence)[:,]? (?=\S)"
)


def committed(reply: str) -> str | None:
    """The text of the one answer, or None.

    Several boxes and several "answer is" count as one when all say the same. After the last of them nothing may follow but a unit.
    Without any, the reply is one line that holds the answer, perhaps after words that end in "is", "so" or the like.
    """
    reply = _BOLD.sub("", reply)
    answers = _boxed(reply)
    if answers is None:
        return None
    marked = _marked(reply)
    if marked is None:
        return None
    answers += marked
    if not answers:
        answers = _alone(reply)
    answers = list(dict.fromkeys(answers))
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
    tail = _CLOSERS.sub("", reply[end:]).strip() if found else ""
    if len(tail) > MOST_CHARACTERS or (len(found) > 1 and unwrapped(tail)):
        return None
    return [*found[:-1], f"{found[-1]} {unwrapped(tail)}".strip()] if found else []


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
    """What follows each "answer is" or "answer:", up to the line's end; after the last one, all. None when one is doubted.

    A box that follows speaks for itself, unless a number stands in between.
    """
    found: list[str] = []
    marks = list(_MARKER.finditer(reply))
    for mark, following in itertools.zip_longest(marks, marks[1:]):
        if _doubted(reply, mark.start()):
            return None
        text = reply[mark.end() : following.start() if following else len(reply)].strip()
        if _BOX.search(text):
            text = _SENTENCE_END.split(text, maxsplit=1)[0]
            text = text if len(text) <= MOST_CHARACTERS and literal(tidy(text)) is not None else ""
        elif following:
            text = text.partition("\n")[0]
        if len(text) > MOST_CHARACTERS:
            return None
        if text:
            found.append(unwrapped(text))
    return found


def _alone(reply: str) -> list[str]:
    text = reply.strip()
    if len(text) > MOST_CHARACTERS:
        return []
    text = unwrapped(text)
    if "\n" in text:
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
