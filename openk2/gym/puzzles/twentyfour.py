"""The 24-game: make a target from given numbers, each used exactly once, with + - * / and parentheses (K2 §3.2)."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from openk2.gym.final import FORM
from openk2.gym.puzzles.kind import Kind
from openk2.gym.single_turn import Question

_MOST_CHARACTERS = 200
_TOKEN = re.compile(r"\s*(?:([0-9]{1,4})|([-+*/()]))")
_SIGNS = {"×": "*", "÷": "/", "−": "-", "·": "*", "⋅": "*", "\\times": "*", "\\cdot": "*", "\\div": "/"}
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def _draw(rng: random.Random, level: int) -> Question:
    """Level 1 has four digits and 24; 2 four numbers up to 13 that do not just add up to 24; 3 five and a target up to 99."""
    while True:
        numbers = [rng.randint(1, 9 if level == 1 else 13) for _ in range(5 if level == 3 else 4)]
        target = rng.randint(25, 99) if level == 3 else 24
        if level == 2 and adds_up(numbers, target):
            continue
        expression = expression_for(numbers, target)
        if expression is not None:
            break
    text = (
        f"Make {target} from the numbers {', '.join(map(str, numbers))}. Use each exactly once (one that is listed twice, "
        "twice), with +, -, *, / and parentheses as you like; do not join digits, and put no sign before a number. "
        f"{FORM} the expression alone."
    )
    key = f"{target} from {' '.join(map(str, sorted(numbers)))}"
    return Question(text, expression, key, facts={"numbers": numbers, "target": target})


def expression_for(numbers: Sequence[int], target: int) -> str | None:
    """An expression that uses each number once and has the value ``target``; None after a search of all without one."""
    return _search([(number, str(number)) for number in numbers], target, set())


_Exact = int | Fraction  # an int where it is whole: most are, and they are quicker
_Term = tuple[_Exact, str]


def _search(terms: list[_Term], target: int, failed: set[tuple[_Exact, ...]]) -> str | None:
    if len(terms) == 2:
        return _last(terms[0], terms[1], target)
    values = tuple(sorted(value for value, _ in terms))
    if values in failed:
        return None
    for one, other in itertools.combinations(range(len(terms)), 2):
        rest = [term for place, term in enumerate(terms) if place not in (one, other)]
        for joined in _joined(terms[one], terms[other]):
            found = _search([*rest, joined], target, failed)
            if found is not None:
                return found
    failed.add(values)
    return None


def _last(one: _Term, other: _Term, target: int) -> str | None:
    """What ``_joined`` of two terms has the value ``target``; most have not, and that shows without a division."""
    a, b = one[0], other[0]
    if target in (a * b, a + b, a - b, b - a) or a == target * b or b == target * a:
        return next((text for value, text in _joined(one, other) if value == target), None)
    return None


def _joined(one: _Term, other: _Term) -> Iterator[_Term]:
    (a, left), (b, right) = one, other
    yield a * b, f"({left} * {right})"
    yield a + b, f"({left} + {right})"
    yield a - b, f"({left} - {right})"
    yield b - a, f"({right} - {left})"
    if b:
        yield _quotient(a, b), f"({left} / {right})"
    if a:
        yield _quotient(b, a), f"({right} / {left})"


def _quotient(a: _Exact, b: _Exact) -> _Exact:
    quotient = Fraction(a, b)
    return quotient.numerator if quotient.denominator == 1 else quotient


def adds_up(numbers: Sequence[int], target: int) -> bool:
    """Whether the target comes of plus and minus alone."""
    return any(
        sum(sign * number for sign, number in zip(signs, numbers, strict=True)) == target
        for signs in itertools.product((1, -1), repeat=len(numbers))
    )


def evaluate(text: str) -> tuple[Fraction, list[int]] | None:
    """The exact value of an expression of unsigned integers, and the integers; None for any other text and for x / 0."""
    tokens = _tokens(text)
    values: list[Fraction] = []
    operators: list[str] = []
    numbers: list[int] = []
    after_operand = False
    for token in tokens:
        if token.isdecimal() != (not after_operand) and token not in "()":
            return None
        if token.isdecimal():
            numbers.append(int(token))
            values.append(Fraction(numbers[-1]))
            after_operand = True
        elif token == "(":
            if after_operand:
                return None
            operators.append(token)
        elif token == ")":
            if not after_operand or not _reduce(values, operators, 0) or not operators:
                return None
            operators.pop()
        else:
            if not _reduce(values, operators, _PRECEDENCE[token]):
                return None
            operators.append(token)
            after_operand = False
    if not after_operand or not _reduce(values, operators, 0) or operators:
        return None
    return values[0], numbers


def _tokens(text: str) -> list[str]:
    """The tokens of an expression; none where a part of the text is no token."""
    tokens: list[str] = []
    place, end = 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or (match[1] or "1").startswith("0"):
            return []
        tokens.append(match[1] or match[2])
        place = match.end()
    return tokens


def _reduce(values: list[Fraction], operators: list[str], precedence: int) -> bool:
    """Apply the operators down to a parenthesis or a weaker one; False for a division by zero."""
    while operators and operators[-1] != "(" and _PRECEDENCE[operators[-1]] >= precedence:
        b, a, operator = values.pop(), values.pop(), operators.pop()
        if operator == "/" and not b:
            return False
        values.append({"+": a + b, "-": a - b, "*": a * b}[operator] if operator != "/" else a / b)
    return True


def _judge(text: str, payload: Mapping[str, Any]) -> bool | None:
    if len(text) > _MOST_CHARACTERS:
        return None
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    found = evaluate(re.sub(rf"\s*=\s*{payload['target']}\Z", "", text))
    if found is None:
        return None
    value, numbers = found
    return value == payload["target"] and sorted(numbers) == sorted(payload["numbers"])


def _guess(payload: Mapping[str, Any], rng: random.Random) -> str:
    terms = [str(number) for number in payload["numbers"]]
    while len(terms) > 1:
        rng.shuffle(terms)
        terms.append(f"({terms.pop()} {rng.choice('+-*/')} {terms.pop()})")
    return terms[0]


KIND = Kind(_draw, _judge, _guess)
