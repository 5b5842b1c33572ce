"""A quick look before math-verify is asked: expressions with different values at one point are different."""

from __future__ import annotations

import cmath
import hashlib
import math

from openk2.gym.stem.expression import Call, Node, Number, Power, Product, Quotient, Root, Sum, Symbol

_CLOSE = 1e-6  # far above what rounding does to so short an expression
_FUNCTIONS = {
    "ln": cmath.log,
    "log": cmath.log10,
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "exp": cmath.exp,
}


def surely_differ(one: Node, other: Node) -> bool:
    """True when the two have clearly different values; False says nothing."""
    try:
        left, right = _value(one), _value(other)
        return abs(left - right) > _CLOSE * max(1.0, abs(left), abs(right))
    except (ArithmeticError, ValueError):
        return False


def _value(node: Node) -> complex:
    match node:
        case Number(value):
            return complex(float(value))
        case Symbol("pi"):
            return complex(math.pi)
        case Symbol("e"):
            return complex(math.e)
        case Symbol(name):  # a point between 1 and 2, of its own for each letter
            return complex(1 + hashlib.blake2b(name.encode()).digest()[0] / 257)
        case Sum(terms):
            return sum(map(_value, terms))
        case Product(factors):
            return math.prod(map(_value, factors), start=complex(1))
        case Quotient(top, bottom):
            return _value(top) / _value(bottom)
        case Power(base, exponent):
            return _value(base) ** _value(exponent)
        case Root(degree, of):
            return _value(of) ** (1 / degree)
        case Call(name, argument):
            return _FUNCTIONS[name](_value(argument))
