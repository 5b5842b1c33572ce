"""Users: a persona and a style of speaking. What one knows is in what the goals let them say (K2 §3.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from openk2.schema import JSON

PERSONAS = (
    "a new colleague", "a manager in a hurry", "a regular customer", "an auditor", "a partner firm's clerk", "a volunteer",
    "a night-shift worker", "a retired expert", "a student on placement", "a team lead", "a field engineer", "a relative of a client",
    "a supplier", "a journalist", "a freelancer", "a head of department",
)  # fmt: skip


def _plain(text: str, rng: Random) -> str:
    return text


def _polite(text: str, rng: Random) -> str:
    opening = rng.choice(("Hello, ", "Good morning. ", "Hi there. ", "Excuse me, ", ""))
    return f"{opening}{text} {rng.choice(('Thank you.', 'Many thanks.', 'Thanks a lot!', 'I appreciate it.'))}"


def _hurried(text: str, rng: Random) -> str:
    return f"{rng.choice(('Quick:', 'Urgent:', 'In a rush,', 'ASAP:'))} {text}"


def _chatty(text: str, rng: Random) -> str:
    aside = rng.choice(
        (
            "It has been one of those days here.",
            "My colleague said you could help.",
            "I would do it myself, but I am on the road.",
            "Sorry to bother you with this.",
            "Last week this took me an hour.",
        )
    )
    return f"{aside} {text}"


def _lower(text: str, rng: Random) -> str:
    """Without the capital and the full stop of a sentence; keys and names keep their case."""
    word = text.split(maxsplit=1)[0]
    return (text[:1].lower() + text[1:] if word.isalpha() and word.istitle() else text).rstrip(".")


def _doubting(text: str, rng: Random) -> str:
    return f"{text} {rng.choice(('Is that possible?', 'Tell me if it does not work.', 'I hope that is allowed.'))}"


STYLES: Mapping[str, Callable[[str, Random], str]] = {
    "plain": _plain,
    "polite": _polite,
    "hurried": _hurried,
    "chatty": _chatty,
    "lower case": _lower,
    "doubting": _doubting,
}
JOINS = (
    "{first} Also: {second}",
    "{first} And then: {second}",
    "{first} After that: {second}",
    "{first} One more: {second}",
)
CLOSINGS = ("That is all.", "Nothing else.", "That was everything.")


@dataclass(frozen=True, slots=True)
class User:
    """Who speaks, and how."""

    persona: str
    style: str

    def say(self, text: str, rng: Random) -> str:
        """The text in this user's manner."""
        return STYLES[self.style](text, rng)

    def to_json(self) -> JSON:
        """Plain JSON."""
        return {"persona": self.persona, "style": self.style}


def make_user(rng: Random) -> User:
    """A user by chance."""
    return User(rng.choice(PERSONAS), rng.choice(list(STYLES)))


def join(asks: list[str], rng: Random) -> str:
    """Several requests in one message."""
    text = asks[0]
    for ask in asks[1:]:
        text = rng.choice(JOINS).format(first=text, second=ask)
    return text
