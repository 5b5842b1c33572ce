"""Cryptarithms: sums in which letters stand for digits, with one solution, found by searching all (K2 §3.2)."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from openk2.gym.final import FORM
from openk2.gym.puzzles.kind import Kind
from openk2.gym.single_turn import Question

_SHAPE = {
    1: (4, 5),
    2: (5, 7),
    3: (6, 8),
}  # digits of each addend; letters in all: few for the length, or solutions abound
_MOST_CHARACTERS = 500
_PAIR = re.compile(r"[\"']?([A-Z])[\"']?\s{0,3}(?:=|:|->|→)\s{0,3}([0-9])(?![0-9])", re.IGNORECASE | re.ASCII)
_BETWEEN = re.compile(r"\s*(?:,?\s*\band\b|[,;|])?\s*", re.IGNORECASE)


def _draw(rng: random.Random, level: int) -> Question:
    """Two addends of four digits at level 1, of five at 2, of six at 3."""
    length, num_letters = _SHAPE[level]
    while True:
        pool = rng.sample(string.digits, num_letters - 1)
        addends = ["".join(rng.choices(pool, k=length)) for _ in range(2)]
        numbers = [*addends, str(sum(map(int, addends)))]
        digits = sorted(set("".join(numbers)))
        if len(digits) != num_letters or any(number.startswith("0") for number in addends):
            continue
        letter = dict(zip(digits, rng.sample(string.ascii_uppercase, len(digits)), strict=True))
        words = ["".join(letter[digit] for digit in number) for number in numbers]
        if len(set(words)) == len(words) and len(assignments(words[:-1], words[-1])) == 1:
            break
    text = (
        "Each letter stands for one digit, different letters for different digits, and no number begins with 0.\n\n"
        f"{' + '.join(words[:-1])} = {words[-1]}\n\n"
        f"{FORM} the digit of each letter, as in A=1, B=2."
    )
    answer = ", ".join(f"{letter[digit]}={digit}" for digit in sorted(digits, key=letter.__getitem__))
    return Question(text, answer, _key(words), facts={"addends": words[:-1], "total": words[-1]})


def assignments(addends: Sequence[str], total: str, most: int = 2) -> list[dict[str, int]]:
    """Up to ``most`` ways to give the letters different digits so that the sum is right and no word begins with 0."""
    columns = [
        ([word[-1 - place] for word in addends if place < len(word)], total[-1 - place]) for place in range(len(total))
    ]
    leading = {word[0] for word in (*addends, total)}
    digits: dict[str, int] = {}
    found: list[dict[str, int]] = []

    def add(place: int, carry: int) -> None:
        """Go on from a column, with what the columns before carry into it."""
        if place == len(columns):
            if not carry:
                found.append(dict(digits))
            return
        letters, below = columns[place]
        unknown = next((letter for letter in letters if letter not in digits), None)
        if unknown is not None:
            for digit in range(10):
                try_with(unknown, digit, place, carry)
            return
        carried, digit = divmod(sum(digits[letter] for letter in letters) + carry, 10)
        if below not in digits:
            try_with(below, digit, place + 1, carried)
        elif digits[below] == digit:
            add(place + 1, carried)

    def try_with(letter: str, digit: int, place: int, carry: int) -> None:
        if len(found) < most and digit not in digits.values() and (digit or letter not in leading):
            digits[letter] = digit
            add(place, carry)
            del digits[letter]

    add(0, 0)
    return found


def _key(words: Sequence[str]) -> str:
    """The words with letters renamed in the order they come, addends sorted: the problem, whatever its letters."""
    names: dict[str, str] = {}
    ordered = sorted(words[:-1]), words[-1]
    return " ".join(
        "".join(names.setdefault(letter, string.ascii_uppercase[len(names)]) for letter in word)
        for word in (*ordered[0], ordered[1])
    )


def _judge(text: str, payload: Mapping[str, Any]) -> bool | None:
    given = read_digits(text)
    words = [*payload["addends"], payload["total"]]
    if given is None or set(given) != set("".join(words)):
        return None
    if len(set(given.values())) < len(given) or any(given[word[0]] == 0 for word in words):
        return False
    *addends, total = (int("".join(str(given[letter]) for letter in word)) for word in words)
    return sum(addends) == total


def read_digits(text: str) -> dict[str, int] | None:
    """What "A=1, B=2" says; None for any other text, and where a letter comes twice."""
    if len(text) > _MOST_CHARACTERS:
        return None
    text = text.removeprefix("{").removesuffix("}").strip()
    digits: dict[str, int] = {}
    place = 0
    while place < len(text):
        match = _PAIR.match(text, place)
        if match is None or match[1].upper() in digits:
            return None
        digits[match[1].upper()] = int(match[2])
        between = _BETWEEN.match(text, match.end())
        assert between is not None, "it matches nothing, too"
        if between.end() == match.end() < len(text):
            return None
        place = between.end()
    return digits


def _guess(payload: Mapping[str, Any], rng: random.Random) -> str:
    letters = sorted(set("".join([*payload["addends"], payload["total"]])))
    return ", ".join(
        f"{letter}={digit}" for letter, digit in zip(letters, rng.sample(range(10), len(letters)), strict=True)
    )


KIND = Kind(_draw, _judge, _guess)
