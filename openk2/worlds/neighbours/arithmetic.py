"""Expressions of numbers: + - * / and parentheses, nothing else."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

LONGEST = 200
BINARY: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(expression: str) -> float:
    """The value of the expression. Raises ValueError for whatever is none, or has no finite value."""
    if len(expression) > LONGEST:
        raise ValueError(f"the expression has over {LONGEST} characters")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError("the expression has no value") from error
    if not abs(value) < float("inf"):
        raise ValueError("the expression has no value")
    return value


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.BinOp() if type(node.op) in BINARY:
            return BINARY[type(node.op)](_value(node.left), _value(node.right))
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand)
    raise ValueError("the expression may have numbers, + - * / and parentheses")
