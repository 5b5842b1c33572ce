"""Closed expressions: read into a tree, and sent to the judge as one.

The words are few: numbers, + - * / ^, fractions, roots, pi, and the letters and functions that the right answer has too. All else
is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

FUNCTIONS = ("ln", "log", "sin", "cos", "tan", "exp")
_DEEPEST = 20
_FACTORS = frozenset("abcnxyz")  # letters that may stand side by side: xy is a product, Evelyn is none
_TOKEN = re.compile(
    r" ?(?:(?P<number>[0-9]{1,40}(?:\.[0-9]{1,40})?)|(?P<command>\\[A-Za-z]+)|(?P<word>[A-Za-z]+)|(?P<mark>[-+*/^(){}\[\]]))"
)


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
    """A run of letters is a name known here, or a product of a few letters, perhaps with a name before or after it."""
    if len(word) == 1 or word in ("pi", "sqrt", *FUNCTIONS):
        return [word]
    for known in ("sqrt", "pi"):
        if word.endswith(known):
            return [*_words(word.removesuffix(known)), known]
        if word.startswith(known):
            return [known, *_words(word.removeprefix(known))]
    return list(word) if len(word) <= 3 and set(word) <= _FACTORS else [word]


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
        exponent = self._atom(depth + 1)
        match exponent:
            case Quotient(Number(top), Number(bottom)) if top == 1 and bottom.denominator == 1 and 2 <= bottom <= 9:
                return Root(int(bottom), base)
        return Power(base, exponent)

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
