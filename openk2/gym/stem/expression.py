"""Closed expressions: read into a tree, asked whether anything is left to compute, and sent to the judge.

The words are few: numbers, + - * / ^, fractions, roots, pi, and the letters and functions that the right answer has too. All else
is no answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

FUNCTIONS = ("ln", "log", "sin", "cos", "tan", "exp")
_DEEPEST = 20
_TOKEN = re.compile(
    r" ?(?:(?P<number>[0-9]{1,40}(?:\.[0-9]{1,40})?)|(?P<command>\\[A-Za-z]+)|(?P<word>[A-Za-z]+)|(?P<mark>[-+*/^(){}\[\]]))"
)
_PERFECT_UP_TO = 10**12


@dataclass(frozen=True, slots=True)
class Number:
    """A rational number."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbol:
    """A letter, or pi."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum:
    """Two terms or more."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Two factors or more."""

    factors: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Quotient:
    """A fraction."""

    top: Node
    bottom: Node


@dataclass(frozen=True, slots=True)
class Power:
    """A power."""

    base: Node
    exponent: Node


@dataclass(frozen=True, slots=True)
class Root:
    """The root of some degree."""

    degree: int
    of: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one argument."""

    name: str
    argument: Node


Node = Number | Symbol | Sum | Product | Quotient | Power | Root | Call


def parse(text: str) -> Node | None:
    """The tree of a tidied text, or None when it is no expression of the few words known here."""
    tokens: list[str] = []
    end = 0
    text = text.rstrip()
    while end < len(text):
        match = _TOKEN.match(text, end)
        if match is None:
            return None
        tokens += _words(match["word"]) if match["word"] else [match.group().strip()]
        end = match.end()
    parser = _Parser(tokens)
    try:
        node = parser.sum(0)
    except _NoExpressionError:
        return None
    return node if parser.place == len(tokens) else None


def _words(word: str) -> list[str]:
    """A run of letters is a name known here, or a product of letters."""
    if word in ("pi", "sqrt", *FUNCTIONS):
        return [word]
    for known in ("sqrt", "pi"):
        if word.endswith(known):
            return [*word[: -len(known)], known]
        if word.startswith(known):
            return [known, *word[len(known) :]]
    return list(word)


class _NoExpressionError(Exception):
    pass


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self.place = tokens, 0

    def _peek(self) -> str:
        return self._tokens[self.place] if self.place < len(self._tokens) else ""

    def _take(self, wanted: str = "") -> str:
        token = self._peek()
        if not token or (wanted and token != wanted):
            raise _NoExpressionError
        self.place += 1
        return token

    def sum(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise _NoExpressionError
        negative = self._peek() in ("-", "+") and self._take() == "-"
        first = self._product(depth)
        terms = [_negated(first) if negative else first]
        while self._peek() in ("+", "-"):
            sign = self._take()
            term = self._product(depth)
            terms.append(_negated(term) if sign == "-" else term)
        return terms[0] if len(terms) == 1 else Sum(tuple(terms))

    def _product(self, depth: int) -> Node:
        factors = [self._power(depth)]
        while True:
            token = self._peek()
            if token == "*":
                self._take()
                factors.append(self._power(depth))
            elif token == "/":
                self._take()
                whole = factors[0] if len(factors) == 1 else Product(tuple(factors))
                factors = [Quotient(whole, self._power(depth))]
            elif token and token not in "+-)}]^" and not token[0].isdigit():
                factors.append(self._power(depth))
            else:
                return factors[0] if len(factors) == 1 else _flat(factors)

    def _power(self, depth: int) -> Node:
        base = self._atom(depth + 1)
        if self._peek() != "^":
            return base
        self._take()
        if self._peek() == "-":
            self._take()
            return Power(base, _negated(self._atom(depth + 1)))
        return Power(base, self._atom(depth + 1))

    def _atom(self, depth: int) -> Node:
        token = self._take()
        if token[0].isdigit():
            return Number(Fraction(token))
        if token in ("(", "{", "["):
            inside = self.sum(depth + 1)
            self._take({"(": ")", "{": "}", "[": "]"}[token])
            return inside
        if token == "\\frac":
            return Quotient(self._braced(depth), self._braced(depth))
        if token == "\\sqrt":
            degree = 2
            if self._peek() == "[":
                self._take()
                digits = self._take()
                self._take("]")
                if not digits.isdecimal() or not 2 <= int(digits) <= 9:
                    raise _NoExpressionError
                degree = int(digits)
            return Root(degree, self._braced(depth))
        if token == "sqrt":
            return Root(2, self._atom(depth + 1))
        name = token.lstrip("\\")
        if name in FUNCTIONS:
            return Call(name, self._atom(depth + 1))
        if token == "pi" or (len(token) == 1 and token.isalpha()):
            return Symbol(token)
        raise _NoExpressionError

    def _braced(self, depth: int) -> Node:
        self._take("{")
        inside = self.sum(depth + 1)
        self._take("}")
        return inside


def _flat(factors: list[Node]) -> Node:
    flat: list[Node] = []
    for factor in factors:
        flat += factor.factors if isinstance(factor, Product) else (factor,)
    return Product(tuple(flat))


def _negated(node: Node) -> Node:
    if isinstance(node, Number):
        return Number(-node.value)
    if isinstance(node, Product) and isinstance(node.factors[0], Number):
        return Product((Number(-node.factors[0].value), *node.factors[1:]))
    if isinstance(node, Quotient):
        return Quotient(_negated(node.top), node.bottom)
    return Product((Number(Fraction(-1)), *(node.factors if isinstance(node, Product) else (node,))))


def parts_of(node: Node) -> tuple[Node, ...]:
    """What a node is directly made of."""
    match node:
        case Sum(terms):
            return terms
        case Product(factors):
            return factors
        case Quotient(top, bottom):
            return (top, bottom)
        case Power(base, exponent):
            return (base, exponent)
        case Root(_, of):
            return (of,)
        case Call(_, argument):
            return (argument,)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for part in parts_of(node):
        yield from walk(part)


def vocabulary(node: Node) -> set[str]:
    """The letters and functions of an expression."""
    letters = {part.name for part in walk(node) if isinstance(part, Symbol) and part.name != "pi"}
    return letters | {part.name for part in walk(node) if isinstance(part, Call)}


def tree(node: Node) -> list[Any]:
    """Plain JSON: the kind of node, then what it is made of."""
    match node:
        case Number(value):
            return ["number", str(value)]
        case Symbol(name):
            return ["symbol", name]
        case Root(degree, of):
            return ["root", degree, tree(of)]
        case Call(name, argument):
            return ["call", name, tree(argument)]
        case _:
            return [type(node).__name__.lower(), *map(tree, parts_of(node))]


# ---------------------------------------------------------------------------------------------
# Is anything left to compute?
# ---------------------------------------------------------------------------------------------


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
