"""How a problem is made: its text, its answer, and what form, unit and names the answer has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from openk2.gym.single_turn import Question
from openk2.gym.stem.forms import Form

BOX = r" Put the answer in \boxed{}."


def problem(
    text: str,
    answer: str | int | Fraction,
    key: str,
    *,
    form: Form = "value",
    unit: str | None = "",
    names: Sequence[str] = (),
    tolerance: str | None = None,
    percent: bool = False,
) -> Question:
    """A question whose payload says how its answer is judged (see ``wanted.Wanted``). ``key`` is the problem without its wording."""
    facts = {"form": form, "unit": unit, "names": list(names), "tolerance": tolerance, "percent": percent}
    return Question(text + BOX, str(answer), key, facts=facts)


def exact(number: Fraction) -> str:
    """A number as a decimal where that ends within three places, else as a fraction."""
    if 1000 % number.denominator:
        return str(number)
    return f"{float(number):.3f}".rstrip("0").rstrip(".")


def rounded(number: Fraction, places: int) -> tuple[str, str]:
    """A number to so many decimal places, and how far an answer may be off: half a unit of the last, and what rounding the gold hides."""
    unit = Fraction(1, 10**places)
    nearest = math.floor(number / unit + Fraction(1, 2)) * unit
    return f"{float(nearest):.{places}f}", str(unit / 2)


def surd(coefficient: int, radicand: int) -> str:
    """The root of a number times a coefficient, in lowest form."""
    for root in range(math.isqrt(radicand), 1, -1):
        if radicand % root**2 == 0:
            coefficient, radicand = coefficient * root, radicand // root**2
            break
    if radicand == 1:
        return str(coefficient)
    return rf"{'' if coefficient == 1 else coefficient}\sqrt{{{radicand}}}"


def polynomial(coefficients: Sequence[int | Fraction], letter: str = "x") -> str:
    """Coefficients from the highest power down, as text: x^2 - 3x + 2."""
    terms: list[str] = []
    for power, coefficient in zip(range(len(coefficients) - 1, -1, -1), coefficients, strict=True):
        if coefficient == 0:
            continue
        size = abs(Fraction(coefficient))
        shown = str(size) if size.denominator == 1 else rf"\frac{{{size.numerator}}}{{{size.denominator}}}"
        tail = (
            ""
            if power == 0
            else letter
            if power == 1
            else f"{letter}^{power}"
            if power < 10
            else f"{letter}^{{{power}}}"
        )
        number = "" if size == 1 and power else shown
        sign = ("-" if coefficient < 0 else "") if not terms else (" - " if coefficient < 0 else " + ")
        terms.append(f"{sign}{number}{tail}")
    return "".join(terms) or "0"
