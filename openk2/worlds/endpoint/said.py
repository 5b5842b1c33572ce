"""Whether a played user said only what it could know: every value in its words against its scenario and what it heard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from openk2.worlds.endpoint.user import Scenario

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NO_NAMES = frozenset((*MONTHS, *DAYS, "mr", "mrs", "ms", "dr"))

MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS)
YEAR = r"(?:,? (?P<year>\d{4})\b)?"
DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
DATES = (
    re.compile(r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)\b"),
    re.compile(rf"\b{DAY}(?: of)? (?P<month>{MONTH})\b{YEAR}", re.IGNORECASE),
    re.compile(rf"\b(?P<month>{MONTH}) {DAY}\b{YEAR}", re.IGNORECASE),
)
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
TIME = re.compile(r"\b(\d{1,2}:\d\d)(?: ?[ap]m)?\b")
ORDINAL = re.compile(r"\b\d+(?:st|nd|rd|th)\b")
# Letters and digits in one: K-481, AB12, 12/B.
CODE = re.compile(r"\b(?=[\w/-]*\d)(?=[\w/-]*[A-Za-z])\w+(?:[/-]\w+)*\b")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
WORD = re.compile(r"[^\W\d_]{2,}")
SENTENCE_OPENS = re.compile(r"(?:\A|[.!?:\n])[\s\"'“‘(]*\Z")


def only_said_what_it_knew(text: str, scenario: Scenario, heard: Iterable[str]) -> list[str]:
    """The values in ``text`` that the user cannot know; empty when all is well.

    ``heard`` are the assistant's words so far. Values are numbers, codes, emails, times, dates and capitalised names,
    however they are written: 1,250 is 1250, and March 14 is 2027-03-14. Not seen: numbers in words, ordinals, and a name
    that opens a sentence.
    """
    known: set[str] = set()
    for source in (*scenario.known, *heard):
        known |= values(source)
        known |= {word.lower() for word in WORD.findall(source)}
    return sorted(value for value in values(text) if not _is_known(value, known))


def values(text: str) -> set[str]:
    """The values a text names, each in one normal form; dates as YYYY-MM-DD, or --MM-DD without a year."""
    found = {name.lower() for name in _names(text)}
    for pattern in DATES:
        found |= {_date(match) for match in pattern.finditer(text)}
        text = pattern.sub(" ", text)
    for pattern in (EMAIL, TIME):
        found |= {match.lower() for match in pattern.findall(text)}
        text = pattern.sub(" ", text)
    text = ORDINAL.sub(" ", text)
    found |= {code.lower() for code in CODE.findall(text)}
    text = CODE.sub(" ", text)
    return found | {number.replace(",", "") for number in NUMBER.findall(text)}


def _names(text: str) -> Iterator[str]:
    """Capitalised words within sentences."""
    for word in WORD.finditer(text):
        if word[0].istitle() and word[0].lower() not in NO_NAMES and not SENTENCE_OPENS.search(text[: word.start()]):
            yield word[0]


def _date(match: re.Match[str]) -> str:
    month = match["month"].lower()
    number = int(month) if month.isdigit() else 1 + next(i for i, name in enumerate(MONTHS) if name.startswith(month))
    return f"{match['year'] or '-'}-{number:02d}-{int(match['day']):02d}"


def _is_known(value: str, known: set[str]) -> bool:
    """Whether it is among the known values; a date without its year is when one with it is."""
    return value in known or (value.startswith("--") and any(other.endswith(value[1:]) for other in known))
