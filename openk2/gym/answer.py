"""Read the one answer a reply commits to; a reply that hedges commits to none.

Rules are strict on purpose: reinforcement finds every leak. A reply may show its working, but after it a single
answer must stand. Numbers are written in digits; "12", "12.0", "+12" and "= 12" are the same number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from decimal import Decimal

_MARKER = re.compile(r"\banswer\s*(?:is\b|:|=)", re.IGNORECASE)
_TOKEN = re.compile(
    r"(?P<number>(?<![\w.])(?:[0-9]{1,3}(?:,[0-9]{3}){1,5}|0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?![\w%]|[.,][0-9]))"
    r"|(?P<operator>[-+*/×÷−])|(?P<equals>=)|(?P<space>\s+)|(?P<other>.)"
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_NEGATIONS = frozenset({"not", "no", "never", "neither", "nor", "except", "cannot"})


def read_number(reply: str, given: Collection[Decimal] = ()) -> Decimal | None:
    """The number a reply answers with, or None when it holds none or several.

    The answer is the last number. It must be the only one, apart from numbers the question gave (``given``) and
    operands of equations ("7 + 5 = 12" leaves 12). "10 or 12", "10, 11, 12" and "10 - 2" answer nothing, nor does
    a reply with digits in any other form ("12th", "1e3", "012", "12%", over 18 of them) or a negation.
    """
    final = _committed(reply)
    numbers = None if final is None else _split_equations(final)
    if numbers is None:
        return None
    operands, candidates = numbers
    if len(set(candidates)) == 1:
        return candidates[0]
    fresh = set(candidates) - set(given) - operands
    return candidates[-1] if candidates and fresh == {candidates[-1]} else None


def read_choice(reply: str, options: Sequence[str]) -> str | None:
    """The one option a reply names as a whole word, in any case; None for none or several."""
    final = _committed(reply)
    words = set() if final is None else {word.casefold() for word in _WORD.findall(final)}
    named = [option for option in options if option.casefold() in words]
    return named[0] if len(named) == 1 else None


def numbers_in(text: str) -> frozenset[Decimal]:
    """All well-formed numbers a text mentions, signs left aside."""
    return frozenset(_value(match["number"]) for match in _TOKEN.finditer(text) if match["number"])


def shortest(number: Decimal) -> str:
    """12 for 12.0; a fraction as it was written."""
    return str(int(number)) if number == number.to_integral_value() else str(number)


def _committed(reply: str) -> str | None:
    """What follows the one "answer is" or "answer:", or the whole reply; None when there are more, or it negates."""
    parts = _MARKER.split(reply)
    words = [word.casefold().replace("’", "'") for word in _WORD.findall(parts[-1])]
    negated = any(word in _NEGATIONS or word.endswith("n't") for word in words)
    return None if negated or len(parts) > 2 else parts[-1]


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", ""))


def _split_equations(text: str) -> tuple[set[Decimal], list[Decimal]] | None:
    """Operands of equations, and the other numbers in order; None when some digit belongs to no number."""
    operands: set[Decimal] = set()
    candidates: list[Decimal] = []
    expression: list[Decimal] = []  # the numbers joined by operators that end here
    sign, joined = 1, False
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        if kind == "number":
            if not joined:
                expression = []
            expression.append(_value(token) if sign > 0 else _value(token).copy_negate())
            candidates.append(expression[-1])
            sign, joined = 1, False
        elif kind == "operator":
            # Before a number that continues nothing, a minus is a sign.
            after_number = bool(expression) and not joined
            joined = joined or after_number
            sign = -1 if not after_number and token in "-−" else 1
        elif kind == "equals":
            if len(expression) > 1:
                operands.update(expression)
                del candidates[-len(expression) :]
            expression, sign, joined = [], 1, False
        elif kind == "other":
            if any(character.isnumeric() for character in token):
                return None
            expression, sign, joined = [], 1, False
    return operands, candidates
