"""Is anything left to compute? The rule that tells an answer from a question written down again."""

from __future__ import annotations

import math
from fractions import Fraction

from openk2.gym.stem.expression import Node, Number, Power, Product, Quotient, Root, Sum, parts_of, vocabulary, walk

_PERFECT_UP_TO = 10**12


def settled(node: Node) -> bool:
    """True when no step is left that the expression itself asks for.

    Fractions are in lowest terms, numbers are multiplied, added and raised, like terms are together, and no root comes out even.
    What need not be: sqrt(18) for 3 sqrt(2), a root in the denominator, the order of terms.
    """
    if not all(settled(part) for part in parts_of(node)):
        return False
    match node:
        case Sum(terms):
            kinds = [_kind(term) for term in terms]
            return len(set(kinds)) == len(kinds) and not any(isinstance(term, Sum) or _zero(term) for term in terms)
        case Product(factors):
            counted = sum(abs(_coefficient(factor)) != 1 for factor in factors)
            roots = sum(isinstance(factor, Root) for factor in factors)
            bases = [factor.base if isinstance(factor, Power) else factor for factor in factors]
            units = sum(isinstance(factor, Number) for factor in factors)
            return (
                counted <= 1
                and roots <= 1
                and units <= 1
                and len(set(bases)) == len(bases)
                and not any(map(_zero, factors))
            )
        case Quotient(top, bottom):
            above, below = _coefficient(top), _coefficient(bottom)
            whole = above.denominator == below.denominator == 1 and below > 0
            return whole and math.gcd(above.numerator, below.numerator) == 1 and bottom != Number(Fraction(1))
        case Power(base, exponent):
            rational = rational_of(exponent)
            if rational in (0, 1):
                return False
            number = rational_of(base)
            if number is None or rational is None:
                return not isinstance(base, Power)
            return rational.denominator > 1 and not _comes_out(number, rational.denominator)
        case Root(degree, of):
            number = rational_of(of)
            return number is None or (number > 0 and not _comes_out(number, degree))
        case _:
            return True


def rational_of(node: Node) -> Fraction | None:
    """The value of a number or a fraction of numbers."""
    match node:
        case Number(value):
            return value
        case Quotient(Number(top), Number(bottom)) if bottom:
            return top / bottom
        case _:
            return None


def compute(node: Node | None) -> Fraction | None:
    """The value of a rational computation with small exponents."""
    match node:
        case Number(value):
            return value
        case Sum(terms):
            values = [compute(term) for term in terms]
            return None if None in values else sum((value for value in values if value is not None), Fraction(0))
        case Product(factors):
            values = [compute(factor) for factor in factors]
            return (
                None
                if None in values
                else math.prod((value for value in values if value is not None), start=Fraction(1))
            )
        case Quotient(top, bottom):
            above, below = compute(top), compute(bottom)
            return above / below if above is not None and below else None
        case Power(base, Number(exponent)) if exponent.denominator == 1 and abs(exponent) <= 64:
            number = compute(base)
            small = number is not None and abs(number.numerator) < 10**20 and number.denominator < 10**20
            return number ** int(exponent) if number and small else None
        case _:
            return None


def num_factors(node: Node) -> int:
    """How many factors with a letter a product has, each as often as its power says; 1 for anything else with a letter."""
    match node:
        case Product(factors):
            return sum(map(num_factors, factors))
        case Power(base, Number(value)) if value.denominator == 1 and value > 0:
            return num_factors(base) * value.numerator
        case Quotient(top, bottom) if rational_of(bottom) is not None:
            return num_factors(top)
        case _:
            return int(bool(vocabulary(node)))


def expanded(node: Node) -> bool:
    """True when no sum is multiplied, divided or raised."""
    for part in walk(node):
        if isinstance(part, Product | Power | Quotient) and any(isinstance(inner, Sum) for inner in parts_of(part)):
            return False
    return True


def _zero(node: Node) -> bool:
    return node == Number(Fraction(0))


def _coefficient(node: Node) -> Fraction:
    """The rational factor of a term."""
    match node:
        case Number(value):
            return value
        case Product(factors):
            return math.prod((_coefficient(factor) for factor in factors), start=Fraction(1))
        case Quotient(top, bottom):
            below = _coefficient(bottom)
            return _coefficient(top) / below if below else Fraction(0)
        case _:
            return Fraction(1)


def _kind(node: Node) -> tuple[str, ...]:
    """What a term counts: terms of one kind can be added up."""
    match node:
        case Number():
            return ()
        case Product(factors):
            return tuple(sorted(name for factor in factors for name in _kind(factor)))
        case Quotient(top, bottom):
            return tuple(sorted([*_kind(top), *(f"1/{name}" for name in _kind(bottom))]))
        case Root(2, Number(value)) if value.denominator == 1:
            return (f"sqrt {_squarefree(value.numerator)}",)
        case _:
            return (repr(node),)


def _squarefree(number: int) -> int:
    for root in range(2, min(math.isqrt(max(number, 0)), 1000) + 1):
        while number % root**2 == 0:
            number //= root**2
    return number


def _comes_out(number: Fraction, degree: int) -> bool:
    """Is the root of this degree rational?"""
    if number < 0:
        return True
    if max(number.numerator, number.denominator) > _PERFECT_UP_TO:
        return False
    return all(round(part ** (1 / degree)) ** degree == part for part in (number.numerator, number.denominator))
