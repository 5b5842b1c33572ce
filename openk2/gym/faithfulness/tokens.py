"""From text to tokens: sentences, and in each the names, numbers, days, words and breaks.

What cannot be read, such as a letter of another script or a sign, stays as a "strange" token.
"""

# ruff: noqa: SIM905
from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from openk2.gym.faithfulness.lexicon import known

Token = tuple[str, str]
"""A kind and a value. Kinds: name, number, date ("@day-month"), word, break, strange."""

MONTHS = tuple("january february march april may june july august september october november december".split())
_UNSEEN = {"Cc", "Cf", "Co", "Cn", "Cs"}  # categories of characters that a reader does not see
_MONTH = "|".join(MONTHS)
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_MONTH})\b", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"\b({_MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]*_]*\s+(?=\S)")
_MARKS = re.compile(r"^\s*(?:[-+*•>#]+\s+|\d{1,2}[.)]\s+)*")
_TOKEN = re.compile(
    r"(?P<date>@\d{1,2}-\d{1,2})|(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
    r"|(?P<break>[,;:()\[\]|—–])|(?P<quiet>[\s.!?\"“”*_`#'-])|(?P<strange>.)",
    re.DOTALL,
)
_TOGETHER = re.compile(r"\b(up to|this year|next year)\b", re.IGNORECASE)  # words that are one
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBERS = {word: number for number, word in enumerate(_ONES)} | {
    word: 10 * number for number, word in enumerate(_TENS, 2)
}
_SCALES = {"hundred": 100, "thousand": 1000}


class Names:
    """The names a context has, by their casefolded words."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.all = frozenset(names)
        self._whole = {tuple(name.casefold().split()): name for name in self.all}
        self._ends: dict[str, set[str]] = {}
        for words, name in self._whole.items():
            for end in (words[0], words[-1]):
                self._ends.setdefault(end, set()).add(name)

    @classmethod
    def of(cls, sentences: Sequence[str]) -> Names:
        """Runs of capitalised words, without those that the lexicon knows."""
        return cls(name for sentence in sentences for name in _capitalised(sentence))

    def at(self, words: Sequence[str]) -> tuple[str, int] | None:
        """The longest name that ``words`` begin with, and its length; for a first or last word alone, the one name that has it."""
        for length in range(min(4, len(words)), 0, -1):
            whole = self._whole.get(tuple(words[:length]))
            if whole is not None:
                return whole, length
        some = self._ends.get(words[0], ())
        return (next(iter(some)), 1) if len(some) == 1 and not known(words[0]) else None


def hidden(text: str) -> bool:
    """Whether a text has characters that a reader does not see."""
    return any(unicodedata.category(character) in _UNSEEN for character in text if character not in "\n\r\t")


def sentences(text: str) -> list[str]:
    """The sentences of a text; every line, heading, list item and table row is at least one."""
    lines = (_MARKS.sub("", line) for line in unicodedata.normalize("NFKC", text).splitlines())
    parts = (sentence.strip() for line in lines for sentence in _SENTENCE_END.split(line))
    return [sentence for sentence in parts if sentence.strip(" .!?*_`#-=|:")]


def tokens(sentence: str, names: Names) -> list[Token]:
    """The tokens of a sentence. A run of capitalised words that is no name of ``names`` is a name they lack."""
    text = unicodedata.normalize("NFKC", sentence).replace("’", "'")
    text = _TOGETHER.sub(lambda found: found[1].replace(" ", "").casefold(), text)
    text = _DAY_FIRST.sub(lambda found: _day(found[1], found[2]), text)
    text = _MONTH_FIRST.sub(lambda found: _day(found[2], found[1]), text)
    raw = [(found.lastgroup or "strange", found.group()) for found in _TOKEN.finditer(text)]
    return list(_named(list(_in_digits([token for token in raw if token[0] != "quiet"])), names))


def _day(day: str, month: str) -> str:
    return f" @{int(day)}-{MONTHS.index(month.casefold()) + 1} "


def _named(raw: Sequence[Token], names: Names) -> Iterator[Token]:
    """Words that make up names as one token each; the others in small letters."""
    place = 0
    while place < len(raw):
        kind, value = raw[place]
        run = _run_of_words(raw[place : place + 6])
        hit = names.at([_bare(word) for word in run]) if run else None
        capitals = _leading_capitals(run)
        length = max(capitals, hit[1] if hit else 0)
        if length:
            yield "name", hit[0] if hit is not None and hit[1] == length else " ".join(run[:length])
            if run[length - 1].casefold().endswith(("'s", "s'")):
                yield "word", "'s"
        elif kind == "word":
            yield ("word" if value.isascii() else "strange"), value.casefold()
        else:
            yield kind, value.replace(",", "").removesuffix(".0") if kind == "number" else value
        place += length or 1


def _run_of_words(raw: Sequence[Token]) -> list[str]:
    end = next((place for place, (kind, _) in enumerate(raw) if kind != "word"), len(raw))
    return [word for _, word in raw[:end]]


def _leading_capitals(words: Sequence[str]) -> int:
    """How many words at the beginning look like one name."""
    plain = (not word[0].isupper() or known(_bare(word)) for word in words)
    return next((place for place, other in enumerate(plain) if other), len(words))


def _bare(word: str) -> str:
    return word.casefold().removesuffix("'s").removesuffix("'")


def _capitalised(sentence: str) -> Iterator[str]:
    for found in re.finditer(r"[A-Z][a-z]+(?: [A-Z][a-z]+)*", sentence):
        words = found.group().split()
        first = next((place for place, word in enumerate(words) if not known(word.casefold())), len(words))
        if words[first:]:
            yield " ".join(words[first:])


def _in_digits(raw: Sequence[Token]) -> Iterator[Token]:
    """Numbers in words as digits: "eighty-five", "two hundred and four". A lone "one" stays a word."""
    place = 0
    while place < len(raw):
        end = place
        while end < len(raw) and _goes_on(raw, place, end):
            end += 1
        words = [word.casefold() for _, word in raw[place:end]]
        if words and words != ["one"]:
            yield "number", str(_value(words))
        else:
            yield raw[place]
        place = max(end, place + 1)


def _goes_on(raw: Sequence[Token], start: int, place: int) -> bool:
    word = raw[place][1].casefold()
    if word == "and":  # only within: "two hundred and four"
        before, after = raw[place - 1][1].casefold(), raw[place + 1][1].casefold() if place + 1 < len(raw) else ""
        return place > start and before in _SCALES and after in _NUMBERS
    return word in _NUMBERS or (word in _SCALES and place > start)


def _value(words: Sequence[str]) -> int:
    total = current = 0
    for word in words:
        if word == "thousand":
            total, current = total + current * 1000, 0
        elif word == "hundred":
            current *= 100
        else:
            current += _NUMBERS.get(word, 0)
    return total + current
