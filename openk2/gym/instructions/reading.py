"""How a reply is divided: words, sentences, lines, paragraphs, list items. Every rule is linear in the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# Letters and digits with the marks that stand on them; the blocks of Indic and Thai script are letters throughout.
_LETTER = (
    r"(?:[^\W_]|[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e])"
)
WORD = re.compile(rf"{_LETTER}+(?:['’\u200c\u200d-]{_LETTER}+){{0,3}}")
_ITEM = re.compile(r"(?P<indent>[ \t]*)(?:(?P<bullet>[-*+•])|(?P<number>\d{1,4})[.)])[ \t]+(?P<text>\S.*)")
_END = re.compile(r"(?:[.!?…]{1,9}|[。！？।۔])[\"'”’»)\]*_]{0,4}(?=\s|$)|(?<=[。！？।])")
_ABBREVIATED = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|vs|no|e\.g|i\.e|etc|cf|approx|ltd|jr|sr|p\.s|p\.p\.s|p\.p|p|[a-z]\.[a-z])"
    r"|(?:^|\s)[A-Z])\.$",
    re.IGNORECASE,
)
_CLOSING = ('"', "'", "”", "’", "»", ")")
_LONGEST_ABBREVIATION = 12


def fold(text: str) -> str:
    """Without difference of case, width and kind of quotation mark or blank."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    return " ".join(text.casefold().split())


_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"'})


def words(text: str) -> list[str]:
    """Runs of letters, digits and their marks; "don't" is one word, "well-known" too, four parts at most."""
    return WORD.findall(text)


def count_phrase(text: str, phrase: str, *, whole: bool = True) -> int:
    """How often a phrase occurs, in any case; as words of its own, or inside others too."""
    if not whole:
        return fold(text).count(fold(phrase))
    return len(re.findall(rf"(?<!\w){re.escape(fold(phrase))}(?!\w)", fold(text)))


def lines(text: str) -> list[str]:
    """Lines that are not blank, without blanks around them."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def paragraphs(text: str) -> list[str]:
    """What blank lines separate."""
    return [block.strip() for block in re.split(r"\n[ \t\r]*\n\s*", text.strip()) if block.strip()]


def sentences(text: str) -> list[str]:
    """Sentences by a stated rule.

    A line break ends one. So does a run of . ! ? … (or of 。！？।۔) before a blank, closing quotes and brackets included; not
    the dot of a common abbreviation or of one initial, and not an ellipsis or a closing quotation mark before small letters. What holds no word is none.
    """
    found = []
    for line in lines(text):
        item = _ITEM.fullmatch(line)
        found += [part for part in _within(item["text"] if item else line) if WORD.search(part)]
    return found


def _within(line: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(line):
        tail = line[max(match.end() - _LONGEST_ABBREVIATION, start) : match.end()]
        following = line[match.end() : match.end() + 2].lstrip()
        quoted = match[0].endswith(_CLOSING) and not line.islower()
        goes_on = (match[0][:2] in ("..", "…") or quoted) and following[:1].islower()
        if goes_on or (match[0] == "." and match.end() < len(line) and _ABBREVIATED.search(tail)):
            continue
        yield line[start : match.end()].strip()
        start = match.end()
    yield line[start:].strip()


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a Markdown list: columns of indent, its number (None for a bullet), the rest of its line."""

    indent: int
    number: int | None
    text: str


def items(text: str) -> list[Item]:
    """Items of lists: "- ", "* ", "+ " or "• ", and "1. " or "1) ", with something behind them."""
    found = []
    for line in text.split("\n"):
        if match := _ITEM.fullmatch(line.rstrip()):
            number = None if match["number"] is None else int(match["number"])
            found.append(Item(len(match["indent"].expandtabs(4)), number, match["text"].strip()))
    return found


def bullets(text: str) -> list[Item]:
    """The items without a number."""
    return [item for item in items(text) if item.number is None]
