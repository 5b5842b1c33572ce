"""Open-vocabulary values, seeded: pseudo-words of syllables, codes, emails, dates, amounts.

Every word, code and number belongs to one of two pools by its hash: training draws from one, everything held out from
the other. So a held-out value was never seen, not even as a part of another.
"""

from __future__ import annotations

import zlib
from random import Random

from openk2.worlds.spec import Field

SYLLABLES = tuple(consonant + vowel for consonant in "bdfgjklmnprstvz" for vowel in "aeiou")
ENDINGS = ("",) * 9 + ("n", "r", "s")
LETTERS = "ABCDEFGHJKLMNPRSTVWXYZ"
HELDOUT_SHARE = 4  # one value in so many is held out


def is_heldout(value: str | int) -> bool:
    """Whether a word, code, date or number belongs to the held-out pool."""
    return zlib.crc32(str(value).encode()) % HELDOUT_SHARE == 0


class Pool:
    """Draws values of one pool. No value is drawn twice from the same ``Pool``."""

    def __init__(self, rng: Random, *, heldout: bool) -> None:
        self._rng = rng
        self._heldout = heldout
        self._drawn: set[str | int] = set()
        self._code_style = rng.randrange(4)

    def value(self, field: Field) -> str | int:
        """A value for a column; refs and keys draw a code, enums any of their values."""
        match field.type:
            case "enum":
                return self._rng.choice(field.values)
            case "amount":
                return self.amount()
            case "name":
                return self.word().capitalize()
            case "email":
                return f"{self.word()}@{self.word()}.{self._rng.choice(('com', 'org', 'net'))}"
            case "date":
                return self.date()
            case "time":
                return self.time()
            case "word":
                return self.word()
            case "code" | "ref":
                return self.code()

    def word(self) -> str:
        """A pseudo-word of two, seldom three, syllables."""
        # Indexing by random() rather than choice(): words are most of what a task costs.
        random, count = self._rng.random, len(SYLLABLES)
        while True:
            word = SYLLABLES[int(random() * count)] + SYLLABLES[int(random() * count)]
            if random() < 0.1:
                word += SYLLABLES[int(random() * count)]
            word += ENDINGS[int(random() * len(ENDINGS))]
            if self._take(word):
                return word

    def code(self) -> str:
        """A record key; all codes of a pool look alike: K-481, KD-48, K4817 or 4817K."""
        rng = self._rng
        while True:
            letter, digits = rng.choice(LETTERS), rng.randrange(100, 1000)
            match self._code_style:
                case 0 | 1:
                    code = f"{letter}-{digits}"
                case 2:
                    code = f"{letter}{rng.choice(LETTERS)}-{digits % 90 + 10}"
                case _:
                    code = f"{digits}{letter}"
            if self._take(code):
                return code

    def amount(self, low: int = 10, high: int = 999) -> int:
        """An integer between ``low`` and ``high``. Raises ValueError when the range holds none of this pool."""
        for _ in range(1000):
            amount = self._rng.randint(low, high)
            if self._take(amount):
                return amount
        raise ValueError(f"no amount left between {low} and {high}")

    def date(self) -> str:
        """A day, as 2027-03-14."""
        rng = self._rng
        while True:
            date = f"20{rng.randint(25, 39)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
            if self._take(date):
                return date

    def time(self) -> str:
        """A time of day, as 14:35."""
        rng = self._rng
        while True:
            time = f"{rng.randint(7, 20):02d}:{rng.randrange(60):02d}"
            if self._take(time):
                return time

    def _take(self, value: str | int) -> bool:
        if value in self._drawn or is_heldout(value) != self._heldout:
            return False
        self._drawn.add(value)
        return True
