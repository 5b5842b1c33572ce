"""A user played by a model: a persona that wants something and knows a scenario's facts, and no more (K2 §3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, Structured, structured
from openk2.schema import Message, Sampling
from openk2.worlds.endpoint.quote import RULE, quoted

INSTRUCTIONS = f"""You play a person who talks to an assistant. Stay in the role given to you, and speak as that person
would, a sentence or two at a time. You know the facts of your scenario and what the assistant has told you, and nothing
else: never make up a number, code, name or date. Set done to true once you have what you wanted, or see that you will
not get it.

{RULE}"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who speaks, what for, and all that this person knows (fact → value)."""

    persona: str
    goal: str
    facts: Mapping[str, str | int]

    @property
    def known(self) -> list[str]:
        """All texts that the person has seen before the first word."""
        return [self.persona, self.goal, *self.facts, *map(str, self.facts.values())]


class Turn(BaseModel):
    """What the user says; ``done`` ends the dialogue."""

    say: str
    done: bool


async def say(
    endpoint: Endpoint, scenario: Scenario, dialogue: Sequence[Message], sampling: Sampling
) -> Structured[Turn]:
    """The user's next words. Of the dialogue the user hears what is said, never calls or their results."""
    role = {"persona": scenario.persona, "goal": scenario.goal, "facts": dict(scenario.facts)}
    heard = [{"speaker": message.role, "text": message.content} for message in _spoken(dialogue)]
    asked = f"{quoted('scenario', role)}\n{quoted('dialogue so far', heard)}\nWhat do you say next?"
    messages = [Message("system", INSTRUCTIONS), Message("user", asked)]
    return await structured(endpoint, messages, Form.of(Turn), sampling)


def _spoken(dialogue: Iterable[Message]) -> list[Message]:
    return [message for message in dialogue if message.role in ("user", "assistant") and message.content]


MONTHS = ("january february march april may june july august september october november december").split()
MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS)
DATES = (
    re.compile(r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)\b"),
    re.compile(rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month>{MONTH})\b(?:,? (?P<year>\d{{4}})\b)?", re.I),
    re.compile(rf"\b(?P<month>{MONTH}) (?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (?P<year>\d{{4}})\b)?", re.I),
)
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
TIME = re.compile(r"\b\d{1,2}:\d\d\b")
# Letters and digits in one: K-481, AB12, 12/B.
CODE = re.compile(r"\b(?=[\w/-]*\d)(?=[\w/-]*[A-Za-z])\w+(?:[/-]\w+)*\b")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
# A capital within a sentence makes a name; at its beginning only where another capital follows.
NAME = re.compile(r"(?<![.!?:\"'(\n] )(?<!^)\b[A-Z][a-z]+(?:[ -][A-Z][a-z]+)*\b|\b[A-Z][a-z]+(?: [A-Z][a-z]+)+\b")
NO_NAMES = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday mr mrs ms dr hi hello thanks okay ok yes no".split()
) | frozenset(MONTHS)


def only_said_what_it_knew(text: str, scenario: Scenario, heard: Iterable[str]) -> list[str]:
    """The values in ``text`` that the user cannot know; empty when all is well.

    ``heard`` are the assistant's words so far. Values are numbers, codes, emails, times, dates and capitalised names,
    however they are written: 1,250 is 1250, and March 14 is 2027-03-14. Not seen: numbers as words, and a single name at
    the beginning of a sentence.
    """
    known: set[str] = set()
    for source in (*scenario.known, *heard):
        known |= values(source)
        known |= {word.lower() for word in re.findall(r"[A-Za-z]+", source)}
    return sorted(value for value in values(text) if not _is_known(value, known))


def values(text: str) -> set[str]:
    """The values a text names, each in one normal form; dates as YYYY-MM-DD or --MM-DD."""
    found: set[str] = set()
    for pattern in DATES:
        for match in pattern.finditer(text):
            found.add(_date(match))
        text = pattern.sub(" ", text)
    for pattern in (EMAIL, TIME, CODE):
        found |= {match.lower() for match in pattern.findall(text)}
        text = pattern.sub(" ", text)
    found |= {number.replace(",", "") for number in NUMBER.findall(text)}
    for name in NAME.findall(text):
        found |= {word.lower() for word in re.split("[ -]", name) if word.lower() not in NO_NAMES}
    return found


def _date(match: re.Match[str]) -> str:
    month = match["month"].lower()
    number = int(month) if month.isdigit() else 1 + next(i for i, name in enumerate(MONTHS) if name.startswith(month))
    return f"{match['year'] or '-'}-{number:02d}-{int(match['day']):02d}"


def _is_known(value: str, known: set[str]) -> bool:
    if value in known:
        return True
    # A date without its year is known when one with it is.
    return value.startswith("--") and any(other.endswith(value[1:]) for other in known)
