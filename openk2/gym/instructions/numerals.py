"""Whole numbers in words, below a thousand."""

from __future__ import annotations

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def spelled(number: int) -> str:
    """142 as "one hundred and forty-two". Raises ValueError beyond 999."""
    if not 0 <= number < 1000:
        raise ValueError(f"{number} is not spelled: 0 to 999 are")
    if number < 20:
        return _SMALL[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f"-{_SMALL[number % 10]}" if number % 10 else "")
    rest = f" and {spelled(number % 100)}" if number % 100 else ""
    return f"{_SMALL[number // 100]} hundred{rest}"


VALUES = {word.replace("-", " "): number for number in range(1000) for word in [spelled(number)]}
"""Each number by its words, without hyphens, "and" where it belongs."""
VALUES |= {word.replace(" and ", " "): number for word, number in list(VALUES.items())}
WORDS = frozenset(word for spoken in VALUES for word in spoken.split()) - {"and"}
