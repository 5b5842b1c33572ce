"""The questions: six kinds of letter to write, each over one to three things."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from openk2.gym.names import invented_names
from openk2.gym.writing.things import EVENTS, NUMBERS, OFFERS, PARCELS, Thing, draw_things
from openk2.schema import JSON

Kind = Literal["describe", "announce", "thank", "apologise", "compare", "recommend"]

_COURTESY, _A_THING, _SPARE = 6, 4, 8  # words: of greeting and closing, around the facts of a thing, and to spare


@dataclass(frozen=True, slots=True)
class Letter:
    """What a letter must be: to whom, of what kind, about which things, in how many words at most.

    ``wished`` (recommend) is the attribute that decides and whether it should be "low" or "high".
    """

    kind: Kind
    name: str
    things: tuple[Thing, ...]
    most_words: int
    wished: tuple[str, str] | None = None

    @property
    def chosen(self) -> Thing | None:
        """The thing to recommend; None where that is not the question."""
        if self.wished is None:
            return None
        attribute, end = self.wished
        pick = min if end == "low" else max
        return pick(self.things, key=lambda thing: int(thing.facts[attribute]))

    @property
    def demanded(self) -> list[tuple[Thing, str]]:
        """Whose attribute must be told: all there are, and in a recommendation the one that decides."""
        if self.wished is not None and self.chosen is not None:
            return [(self.chosen, self.wished[0])]
        return [(thing, attribute) for thing in self.things for attribute in thing.facts]

    def to_json(self) -> JSON:
        """As it stands in a task's payload."""
        things = [{"noun": thing.noun, "number": thing.number, "facts": dict(thing.facts)} for thing in self.things]
        return {
            "name": self.name, "things": things, "most_words": self.most_words,
            "wished": None if self.wished is None else list(self.wished),
        }  # fmt: skip

    @classmethod
    def from_json(cls, kind: str, data: Mapping[str, Any]) -> Letter:
        """Read what ``to_json`` wrote."""
        wished = data["wished"]
        return cls(
            cast(Kind, kind), data["name"], tuple(Thing(**thing) for thing in data["things"]), data["most_words"],
            None if wished is None else (wished[0], wished[1]),
        )  # fmt: skip


def _describe(rng: random.Random, level: int) -> Letter:
    return _letter(rng, "describe", draw_things(rng, OFFERS, 1, level + 1))


def _announce(rng: random.Random, level: int) -> Letter:
    return _letter(rng, "announce", draw_things(rng, EVENTS, 1, level + 1))


def _thank(rng: random.Random, level: int) -> Letter:
    return _letter(rng, "thank", draw_things(rng, PARCELS, 1, level + 1))


def _apologise(rng: random.Random, level: int) -> Letter:
    return _letter(rng, "apologise", draw_things(rng, PARCELS, 1, level + 1))


def _compare(rng: random.Random, level: int) -> Letter:
    return _letter(rng, "compare", draw_things(rng, OFFERS, 2, level))


def _recommend(rng: random.Random, level: int) -> Letter:
    while True:
        things = draw_things(rng, OFFERS, 3 if level == 3 else 2, min(level, 2))
        deciding = [attribute for attribute in things[0].facts if attribute in NUMBERS]
        if deciding:
            return _letter(rng, "recommend", things, (rng.choice(deciding), rng.choice(("low", "high"))))


def _letter(rng: random.Random, kind: Kind, things: Sequence[Thing], wished: tuple[str, str] | None = None) -> Letter:
    (name,) = invented_names(rng, 1)
    letter = Letter(kind, name, tuple(things), 0, wished)
    a_fact = 4 if len(things) == 1 else 2
    most = (
        _COURTESY
        + _A_THING * len({thing.name for thing, _ in letter.demanded})
        + a_fact * len(letter.demanded)
        + _SPARE
    )
    return replace(letter, most_words=-(-most // 5) * 5)


_ASKED: Mapping[Kind, tuple[str, ...]] = {
    "describe": ("Tell {name} about", "Write {name} a note about", "Send {name} a word about"),
    "announce": ("Invite {name} by a note about", "Write {name} an invitation to", "Tell {name} of"),
    "thank": ("Write {name} a note of thanks for", "Tell {name} how thankful we are for", "Send {name} our thanks for"),
    "apologise": ("Write {name} that we regret", "Tell {name} that we regret", "Send {name} our regrets for"),
    "compare": ("Compare for {name}", "Write {name} a comparison of", "Tell {name} the differences of"),
    "recommend": (
        "Help {name} choose a {noun} of {wish}:",
        "Write {name} which to take, a {noun} of {wish}:",
        "Tell {name} which to take, a {noun} of {wish}:",
    ),
}
"""What to do. Each has a word that no letter says itself, so that a copied question is no letter."""


def _asked(letter: Letter) -> str:
    thing, ways = letter.things[0], _ASKED[letter.kind]
    wish = "" if letter.wished is None else "{1} {0}".format(*letter.wished)
    return ways[int(thing.number) % len(ways)].format(name=letter.name, noun=thing.noun, wish=wish)


def shown(thing: Thing) -> str:
    """A thing as a question shows it."""
    return f"{thing.name}: " + ", ".join(f"{attribute} {value}" for attribute, value in thing.facts.items())


def question_of(letter: Letter) -> str:
    """The question's text; the facts stand in the same sentence as what to do with them."""
    things = "; ".join(shown(thing) for thing in letter.things)
    return f"{_asked(letter)} {things}. Use at most {letter.most_words} words."


DRAWS: Mapping[Kind, Callable[[random.Random, int], Letter]] = {
    "describe": _describe, "announce": _announce, "thank": _thank, "apologise": _apologise, "compare": _compare,
    "recommend": _recommend,
}  # fmt: skip
"""Draws a letter of a kind at a level 1 to 3."""
