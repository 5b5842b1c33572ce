"""What the letters are about: things with a number for a name and a few facts, some numbers, some words."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

VIEWS = ("sea", "lake", "garden", "street")
COLOURS = ("red", "blue", "green", "black")
DAYS = ("monday", "tuesday", "thursday", "friday")
WORDS: Mapping[str, tuple[str, ...]] = {"view": VIEWS, "colour": COLOURS, "day": DAYS}
"""Attributes whose value is a word; no word is a value of two."""

NUMBERS: Mapping[str, tuple[int, int]] = {
    "price": (20, 199), "floor": (1, 9), "beds": (1, 6), "seats": (2, 60), "age": (1, 30), "weight": (2, 90),
    "hall": (1, 9), "hour": (8, 20), "boxes": (1, 9), "delay": (1, 14),
}  # fmt: skip
"""Attributes whose value is a number, with the lowest and the highest."""
PLURAL = frozenset({"beds", "seats", "boxes"})

OFFERS: Mapping[str, tuple[str, ...]] = {
    "room": ("price", "floor", "beds", "view"),
    "boat": ("price", "seats", "age", "colour"),
    "bike": ("price", "age", "weight", "colour"),
}
EVENTS: Mapping[str, tuple[str, ...]] = {
    "talk": ("day", "hour", "hall", "price"),
    "party": ("day", "hour", "floor", "price"),
}
PARCELS: Mapping[str, tuple[str, ...]] = {
    "parcel": ("day", "boxes", "weight", "price"),
    "order": ("day", "boxes", "delay", "price"),
}
NOUNS = frozenset({*OFFERS, *EVENTS, *PARCELS})
ATTRIBUTES = frozenset({*NUMBERS, *WORDS})
ATTRIBUTE_OF = {word: attribute for attribute, words in WORDS.items() for word in words}


@dataclass(frozen=True, slots=True)
class Thing:
    """One of the things of a letter, as in ``room 12``. Values are the words or digits that are shown."""

    noun: str
    number: str
    facts: Mapping[str, str]

    @property
    def name(self) -> str:
        """How it is called in text."""
        return f"{self.noun} {self.number}"


def draw_value(rng: random.Random, attribute: str) -> str:
    """Any value that an attribute may have."""
    return rng.choice(WORDS[attribute]) if attribute in WORDS else str(rng.randint(*NUMBERS[attribute]))


def draw_things(rng: random.Random, kinds: Mapping[str, tuple[str, ...]], count: int, num_facts: int) -> list[Thing]:
    """Things of one noun that have the same attributes, and differ in each that is a number."""
    noun = rng.choice(sorted(kinds))
    attributes = rng.sample(kinds[noun], num_facts)
    columns = []
    for attribute in attributes:
        if attribute in NUMBERS:
            low, high = NUMBERS[attribute]
            columns.append([str(value) for value in rng.sample(range(low, high + 1), count)])
        else:
            columns.append([draw_value(rng, attribute) for _ in range(count)])
    numbers = rng.sample(range(10, 100), count)
    return [
        Thing(noun, str(number), dict(zip(attributes, values, strict=True)))
        for number, *values in zip(numbers, *columns, strict=True)
    ]
