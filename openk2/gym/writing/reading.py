"""What a letter says, read word by word: its facts, and whether it has one of the known flaws.

A sentence counts only when it is read to its end. What is not in ``lexicon.py`` is not read: then the sentence
is ``wrong`` where it is about a thing of the letter, for it says more than was shown, and ``off_topic`` where it is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from openk2.gym.writing.letters import Letter
from openk2.gym.writing.lexicon import (
    ABOUT_ITSELF,
    BEFORE_A_VALUE,
    CHOOSING,
    ENDS,
    GRATITUDE,
    MARKS,
    PRAISE,
    PRICED,
    READ,
    REGRET,
)
from openk2.gym.writing.things import ATTRIBUTE_OF, ATTRIBUTES, NOUNS, NUMBERS, Thing

TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+|[^\sa-z0-9]", re.ASCII)
SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?\n]+|\Z)")


@dataclass(slots=True)
class Reading:
    """What was found. ``said``: things (by name) and attributes that were told rightly, in sentences read to their end."""

    said: set[tuple[str, str]] = field(default_factory=set)
    named: bool = False
    thanked: bool = False
    regretted: bool = False
    chosen: set[str] = field(default_factory=set)
    praise: bool = False
    justification: bool = False
    off_topic: bool = False
    wrong: bool = False
    num_words: int = 0


def read(text: str, letter: Letter) -> Reading:
    """Read a reply as that letter. Whatever the text is, takes time in proportion to its length."""
    reading, about = Reading(), _Subjects(letter)
    for sentence in SENTENCE.findall(text.lower().replace("’", "'")):
        tokens = TOKEN.findall(sentence)
        words = {token for token in tokens if token not in MARKS}
        if not words:
            continue
        reading.num_words += sum(token[0].isalnum() for token in tokens)
        on_topic = bool(words & (NOUNS | ATTRIBUTES | ATTRIBUTE_OF.keys()))
        name = letter.name.lower()
        unread = words - READ - {name} - {token for token in words if token.isdecimal()}
        if words & PRAISE:
            reading.praise = True
            continue
        if words & ABOUT_ITSELF:
            reading.justification = True
            continue
        if unread:
            reading.wrong |= on_topic
            reading.off_topic |= not on_topic
            continue
        said = _Sentence(tokens, about)
        reading.wrong |= not said.holds
        if said.holds:
            reading.said |= said.said
        reading.named |= name in words
        reading.thanked |= bool(words & GRATITUDE)
        reading.regretted |= bool(words & REGRET)
        if words & CHOOSING:
            reading.chosen |= said.things or {thing.name for thing in about.now}  # "Take it."
    return reading


class _Subjects:
    """The things of a letter, and those the last words were about; a letter of one thing is about it from the start."""

    def __init__(self, letter: Letter) -> None:
        self.by_name = {thing.name: thing for thing in letter.things}
        self.nouns = {thing.noun for thing in letter.things}
        self.now: list[Thing] = list(letter.things) if len(letter.things) == 1 else []

    def extreme(self, attribute: str, end: str) -> bool:
        """Whether what it is about has the lowest or highest of all; what has no such number has not."""
        values = [int(thing.facts.get(attribute, "-1")) for thing in self.by_name.values()]
        return bool(self.now) and all(
            int(thing.facts.get(attribute, "-1")) == ENDS[end](values) and values.count(ENDS[end](values)) == 1
            for thing in self.now
        )


class _Sentence:
    """A sentence of known words: which facts it tells, and whether all it tells holds."""

    def __init__(self, tokens: list[str], about: _Subjects) -> None:
        self.said: set[tuple[str, str]] = set()
        self.things: set[str] = set()
        self.holds = True
        self._tokens, self._about = tokens, about
        self._pending: str | None = None  # an attribute whose value is still to come
        self._last: str | None = None  # the attribute told last: "price 80 for room 12 and 95 for room 14"
        place = 0
        while place < len(tokens):
            place += self._take(place)

    def _take(self, place: int) -> int:
        """Read at that place; how many tokens it took."""
        token, after = self._tokens[place], self._next(place + 1)
        if token in NOUNS:
            return self._take_thing(place)
        if token == "both":
            self._about.now = list(self._about.by_name.values())
            self.things |= self._about.by_name.keys()
        elif token in ("cheaper", "cheapest"):
            self.holds &= self._about.extreme("price", "lower")
        elif token in ENDS:
            self.holds &= after in NUMBERS and self._about.extreme(after, token)
        elif token in ATTRIBUTES or token in PRICED:
            self._pending = PRICED.get(token, token)
        elif token in ATTRIBUTE_OF:
            return self._tell(ATTRIBUTE_OF[token], token, place, after == ATTRIBUTE_OF[token])
        elif token.isdecimal():
            return self._take_number(place, after)
        return 1

    def _take_thing(self, place: int) -> int:
        """Room 12, room number 12; a noun alone changes nothing, a number that is none of the things' is wrong."""
        noun, skipped = self._tokens[place], 2 if self._next(place + 1) == "number" else 1
        number = self._next(place + skipped)
        if not number.isdecimal():
            self.holds &= noun in self._about.nouns
            return 1
        thing = self._about.by_name.get(f"{noun} {number}")
        if thing is None:
            self.holds = False
        else:
            self._about.now = [thing]
            self.things.add(thing.name)
        return skipped + 1

    def _take_number(self, place: int, after: str) -> int:
        self.holds &= place == 0 or self._tokens[place - 1] in BEFORE_A_VALUE
        if self._pending is not None and self._pending in NUMBERS:
            return self._tell(self._pending, self._tokens[place], place, False)
        if after in NUMBERS:
            return self._tell(after, self._tokens[place], place, True)
        if self._last is not None and self._last in NUMBERS and after in ("for", "of"):
            return self._tell(self._last, self._tokens[place], place, False)
        self.holds = False
        return 1

    def _tell(self, attribute: str, value: str, place: int, named_after: bool) -> int:
        """A value was told of what the sentence is about, or of the thing that follows: "80 for room 12"."""
        took = 2 if named_after else 1
        if self._next(place + took) in ("for", "of") and self._next(place + took + 1) in NOUNS:
            took += 1 + self._take_thing(place + took + 1)
        self._pending, self._last = None, attribute
        self.holds &= bool(self._about.now)
        for thing in self._about.now:
            if thing.facts.get(attribute) == value:
                self.said.add((thing.name, attribute))
            else:
                self.holds = False
        return took

    def _next(self, place: int) -> str:
        return self._tokens[place] if place < len(self._tokens) else ""
