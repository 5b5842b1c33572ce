"""Seeded values from an open vocabulary: names, codes, addresses, amounts.

A closed list of names would be memorised; made of syllables, nearly every value is new and can only be copied.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from openk2.data.python import python_words

T = TypeVar("T")

# Syllables are onset and vowel; the last of a word may have a coda too.
_ONSETS = "b br c ch d dr f fl g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sn st t th tr v w z".split()  # noqa: SIM905
_VOWELS = "a a a a e e e e i i i i o o o o u u u ai ea io ou".split()  # noqa: SIM905
_CODAS = [*[""] * 12, *"n n r r l l s m t k d x nd rk st".split()]  # noqa: SIM905
_DOMAINS = "com org net io dev".split()  # noqa: SIM905
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


class Values:
    """Draws values with a given generator of random numbers."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._words = python_words()
        self._makers: tuple[Callable[[], str], ...] = (
            self.word,
            self.word,
            self.name,
            self.name,
            self.person,
            self.person,
            self.code,
            self.code,
            self.email,
            self.amount,
            self.date,
            self.number,
            self.phrase,
        )

    def pick(self, items: Sequence[T]) -> T:
        """One of ``items``."""
        return items[int(self._random() * len(items))]

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True this often."""
        return self._random() < probability

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order."""
        return sorted(items, key=lambda _: self._random())

    def distinct(self, make: Callable[[], str], count: int) -> list[str]:
        """``count`` different values of one kind."""
        found: dict[str, None] = {}
        while len(found) < count:
            found[make()] = None
        return list(found)

    def anything(self) -> str:
        """A value of any kind."""
        return self.pick(self._makers)()

    def word(self) -> str:
        """As in zamori; every other one is a real word, so that all pieces of words are met."""
        if self.chance(0.5):
            return self.pick(self._words)
        syllables = [self.pick(_ONSETS) + self.pick(_VOWELS) for _ in range(self.pick((1, 2, 2, 2, 3)))]
        return "".join(syllables) + self.pick(_CODAS)

    def name(self) -> str:
        """As in Zamori."""
        return self.word().capitalize()

    def person(self) -> str:
        """As in Dova Lem."""
        return f"{self.name()} {self.name()}"

    def phrase(self) -> str:
        """Two to four words."""
        return " ".join(self.word() for _ in range(self.between(2, 4)))

    def digits(self, count: int) -> str:
        """So many digits, the first of them not 0."""
        return str(self.between(10 ** (count - 1), 10**count - 1))

    def number(self) -> str:
        """As in 481."""
        return self.digits(self.pick((1, 2, 2, 3, 3, 4, 5)))

    def code(self) -> str:
        """As in RX-4821, A12 or 31-K."""
        letters = "".join(self.pick(_CAPITALS) for _ in range(self.pick((1, 1, 2, 2, 3))))
        digits = self.digits(self.pick((2, 3, 3, 4)))
        return self.pick((f"{letters}-{digits}", f"{letters}-{digits}", f"{letters}{digits}", f"{digits}-{letters}"))

    def email(self) -> str:
        """As in mira@velt.org."""
        return f"{self.word()}@{self.word()}.{self.pick(_DOMAINS)}"

    def amount(self) -> str:
        """As in 45.90."""
        return f"{self.number()}.{self.between(0, 9)}{self.pick('05')}"

    def date(self) -> str:
        """As in 2031-04-17."""
        return f"20{self.between(10, 49)}-{self.between(1, 12):02}-{self.between(1, 28):02}"
