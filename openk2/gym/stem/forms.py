"""The forms of an answer: one value, a tuple, a set, intervals; each read from tidied text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from openk2.gym.stem.expression import Node, parse
from openk2.gym.stem.literal import literal
from openk2.gym.stem.settled import rational_of

Form = Literal["value", "tuple", "set", "interval"]
Value = Fraction | Node | Literal["inf", "-inf"]

_MOST_PARTS = 12
_BRACKETED = re.compile(r"(?P<open>[(\[]) ?(?P<inside>[^()\[\]]*(?:\([^()]*\)[^()\[\]]*)*) ?(?P<close>[)\]])")
_CHAIN = re.compile(r"(?P<low>[^<>=]+)(?P<first><=?)(?P<name>[^<>=]+)(?P<second><=?)(?P<high>[^<>=]+)")
_ONE_SIDED = re.compile(r"(?P<left>[^<>=]+)(?P<sign>[<>]=?)(?P<right>[^<>=]+)")
_JOINED = re.compile(r" and | or |,|;")
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True, slots=True)
class Piece:
    """One value, or several between brackets. An answer is some of these; their order means nothing."""

    brackets: str
    values: tuple[Value, ...]


def value_in(text: str) -> Fraction | Node | None:
    """An exact number, or an expression that is none."""
    text = text.strip()
    bare = text[1:-1].strip() if text.startswith("(") and text.endswith(")") else text
    number = literal(bare)
    if number is not None:
        return number
    node = parse(text)
    return None if node is None or rational_of(node) is not None else node


def tuple_in(text: str, names: tuple[str, ...]) -> tuple[Piece, ...] | None:
    """The tuple in "(2, 5)", "(x, y) = (2, 5)", or with each part by its name in any order."""
    left, equals, right = text.partition("=")
    if equals and left.replace(" ", "") == f"({','.join(names)})":
        text = right.strip()
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed and bracketed["open"] + bracketed["close"] == "()":
        text = bracketed["inside"]
    parts = _split(text)
    if "=" in text:
        named = {name.strip(): end for name, _, end in (part.partition("=") for part in parts)}
        if len(named) != len(parts) or set(named) != set(names):
            return None
        parts = [named[name] for name in names]
    values = tuple(value for part in parts if (value := value_in(part)) is not None)
    return (Piece("()", values),) if 2 <= len(values) == len(parts) <= _MOST_PARTS else None


def set_in(text: str, names: tuple[str, ...]) -> tuple[Piece, ...] | None:
    """The elements of "{1, 2}", "x = 1 or x = 2", "1 and 2", or "±3"."""
    for name in names:
        text = text.removeprefix(f"{name} in ")
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    elements: list[str] = []
    for part in _split(text):
        name, equals, end = part.partition("=")
        element = end.strip() if equals and name.strip() in names else part
        elements += [element.replace("±", sign, 1) for sign in "+-"] if "±" in element else [element]
    values = [value for element in elements if (value := value_in(element.strip().removeprefix("+"))) is not None]
    return tuple(Piece("", (value,)) for value in values) if len(values) == len(elements) <= _MOST_PARTS else None


def intervals_in(text: str, names: tuple[str, ...]) -> tuple[Piece, ...] | None:
    """The intervals of "[0, 1)", "0 <= x < 1", "x > 3", and unions of them."""
    for name in names:
        text = text.removeprefix(f"{name} in ")
    parts = re.split(r" U | or ", text)
    found = tuple(piece for part in parts if (piece := _interval(part.strip(), names)) is not None)
    return found if len(found) == len(parts) <= _MOST_PARTS else None


def _split(text: str) -> list[str]:
    """Parts between commas (or "and", "or") that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        joined = _JOINED.match(text, place) if depth == 0 and place >= start else None
        if joined:
            parts.append(text[start:place].strip())
            start = joined.end()
    parts.append(text[start:].strip())
    return [part.removeprefix("and ").removeprefix("or ") for part in parts]  # "1, 2, and 3"


def _interval(text: str, names: tuple[str, ...]) -> Piece | None:
    if bracketed := _BRACKETED.fullmatch(text):
        low, comma, high = bracketed["inside"].partition(",")
        return _between(bracketed["open"], low, high, bracketed["close"]) if comma else None
    if (chain := _CHAIN.fullmatch(text)) and chain["name"].strip() in names:
        opening, closing = "(" if chain["first"] == "<" else "[", ")" if chain["second"] == "<" else "]"
        return _between(opening, chain["low"], chain["high"], closing)
    if not (one := _ONE_SIDED.fullmatch(text)):
        return None
    name, sign, end = one["left"].strip(), one["sign"], one["right"].strip()
    if end in names:
        name, sign, end = end, _TURNED[sign], name
    if name not in names:
        return None
    if sign[0] == ">":
        return _between("[" if sign == ">=" else "(", end, "inf", ")")
    return _between("(", "-inf", end, "]" if sign == "<=" else ")")


def _between(opening: str, low: str, high: str, closing: str) -> Piece | None:
    """An interval; an infinite end is open."""
    start: Value | None = "-inf" if low.replace(" ", "") == "-inf" else value_in(low)
    end: Value | None = "inf" if high.replace(" ", "").removeprefix("+") == "inf" else value_in(high)
    if start is None or end is None or (start == "-inf" and opening == "[") or (end == "inf" and closing == "]"):
        return None
    return Piece(opening + closing, (start, end))
