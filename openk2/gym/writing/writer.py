"""Letters by template: good ones in several wordings, and ones with a flaw that is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import Literal

from openk2.gym.writing.letters import Letter
from openk2.gym.writing.things import NOUNS, PLURAL, Thing, draw_value

Flaw = Literal["praise", "justification", "off_topic", "wrong", "verbose", "missing"]
FLAWS: tuple[Flaw, ...] = ("praise", "justification", "off_topic", "wrong", "verbose", "missing")

_PRAISE = (
    "What a great question!", "Good choice, {name}!", "That is a wonderful idea!", "Excellent question, {name}!",
)  # fmt: skip
_JUSTIFICATION = (
    "This reply has all the facts.", "I kept this short and clear.", "As asked, this note is complete.",
    "My answer is correct and polite.",
)  # fmt: skip
_OFF_TOPIC = (
    "The weather is warm today.", "My cat likes warm milk.", "Do you like music?", "Trains are often late here.",
)  # fmt: skip
_AGAIN = ("Once again, {again}.", "Let me say it again: {again}.", "So, to say it once more, {again}.")


def good(letter: Letter, rng: random.Random) -> str:
    """A letter that has all that is asked for and nothing else."""
    told = [
        (thing, [name for name in thing.facts if (thing, name) in letter.demanded])
        for thing in letter.things
        if any(each == thing for each, _ in letter.demanded)
    ]
    return _written(letter, told, rng)


def flawed(letter: Letter, flaw: Flaw, rng: random.Random) -> str:
    """A letter with that flaw and no other."""
    match flaw:
        case "praise":
            return f"{rng.choice(_PRAISE).format(name=letter.name)} {good(letter, rng)}"
        case "justification":
            return f"{good(letter, rng)} {rng.choice(_JUSTIFICATION)}"
        case "off_topic":
            return f"{good(letter, rng)} {rng.choice(_OFF_TOPIC)}"
        case "wrong":
            return good(_misread(letter, rng), rng)
        case "verbose":
            return _repeating(letter, rng)
        case "missing":
            return _lacking(letter, rng)


def _misread(letter: Letter, rng: random.Random) -> Letter:
    """The same letter, as one reads it who takes a demanded value for another, or the thing; what to recommend stays."""
    thing, attribute = rng.choice(letter.demanded)
    match rng.choice(("value", "value", "number", "noun")):
        case "value":
            value = _another({thing.facts[attribute]}, lambda: draw_value(rng, attribute))
            misread = replace(thing, facts={**thing.facts, attribute: value})
        case "number":
            number = _another({each.number for each in letter.things}, lambda: str(rng.randrange(10, 100)))
            misread = replace(thing, number=number)
        case _:
            misread = replace(thing, noun=_another({thing.noun}, lambda: rng.choice(sorted(NOUNS))))
    if letter.wished is not None:
        return replace(letter, things=(misread,))
    return replace(letter, things=tuple(misread if each == thing else each for each in letter.things))


def _another(those: Container[str], draw: Callable[[], str]) -> str:
    """What ``draw`` gives, drawn until it is none of those."""
    drawn = draw()
    while drawn in those:
        drawn = draw()
    return drawn


def _repeating(letter: Letter, rng: random.Random) -> str:
    text = good(letter, rng)
    while len(text.split()) <= letter.most_words:
        thing, attribute = rng.choice(letter.demanded)
        again = f"the {attribute} of {thing.name} {_is(attribute)} {thing.facts[attribute]}"
        text = f"{text} {rng.choice(_AGAIN).format(again=again)}"
    return text


def _lacking(letter: Letter, rng: random.Random) -> str:
    """Without one of the facts, or, where one alone is asked for, without the name."""
    lacks = rng.choice(letter.demanded)
    told = []
    for thing in letter.things:
        names = [name for name in thing.facts if (thing, name) in letter.demanded and (thing, name) != lacks]
        if names:
            told.append((thing, names))
    if not told:
        return good(replace(letter, name=""), rng)
    return _written(letter, told, rng)


Told = Sequence[tuple[Thing, Sequence[str]]]
Clause = Callable[[Thing, Sequence[str]], str]


def _written(letter: Letter, told: Told, rng: random.Random) -> str:
    opening, closing = _courtesy(letter, rng)
    clause = rng.choice(_clauses(letter))
    clauses = [clause(thing, names) for thing, names in told]
    body = _capital(rng.choice((", ", ", and ")).join(clauses)) + "."
    return " ".join(part for part in (opening, body, closing) if part)


def _courtesy(letter: Letter, rng: random.Random) -> tuple[str, str]:
    """What stands before and after the facts."""
    name = letter.name
    match letter.kind:
        case "thank":
            starts = [f"Thank you, {name}.", f"Many thanks, {name}."] if name else ["Thank you.", "Many thanks."]
            return rng.choice(starts), ""
        case "apologise":
            starts = [f"Sorry, {name}.", f"We are sorry, {name}."] if name else ["Sorry.", "We are sorry."]
            return rng.choice(starts), ""
        case "announce":
            return rng.choice((f"Welcome, {name}.", f"Dear {name}.")) if name else "Welcome.", rng.choice(
                ("", "See you!")
            )
        case _:
            return rng.choice((f"Hello {name}.", f"Dear {name}.")) if name else "Hello.", ""


def _clauses(letter: Letter) -> list[Clause]:
    """The ways in which a letter may tell the facts of a thing."""
    if letter.kind == "recommend":
        return [
            lambda thing, names: f"take {thing.name}, it has {_listed(_pairs(thing, names))}",
            lambda thing, names: f"choose {thing.name} with {_listed(_pairs(thing, names))}",
        ]
    ways: list[Clause] = [
        lambda thing, names: f"{thing.name} has {_listed(_pairs(thing, names))}",
        lambda thing, names: f"{thing.name}: {', '.join(_pairs(thing, names))}",
    ]
    return ways if len(letter.things) > 1 else [*ways, _in_full]


def _pairs(thing: Thing, names: Sequence[str]) -> list[str]:
    return [f"{name} {thing.facts[name]}" for name in names]


def _in_full(thing: Thing, names: Sequence[str]) -> str:
    said = [f"its {name} {_is(name)} {thing.facts[name]}" for name in names]
    return f"for {thing.name}, {_listed(said)}"


def _is(attribute: str) -> str:
    return "are" if attribute in PLURAL else "is"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
