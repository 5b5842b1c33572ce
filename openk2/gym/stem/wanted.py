"""What a problem wants, and an answer read as that: values in brackets, exact numbers or closed expressions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from openk2.gym.stem import units
from openk2.gym.stem.expression import (
    FUNCTIONS,
    Node,
    compute,
    expanded,
    num_factors,
    parse,
    rational_of,
    settled,
    vocabulary,
)
from openk2.gym.stem.literal import literal
from openk2.gym.stem.tidy import tidy

Form = Literal["value", "tuple", "set", "interval"]
Value = Fraction | Node | Literal["inf", "-inf"]
_MOST_PARTS = 12
_BRACKETED = re.compile(r"(?P<open>[(\[]) ?(?P<inside>[^()\[\]]*(?:\([^()]*\)[^()\[\]]*)*) ?(?P<close>[)\]])")
_LOW_HIGH = re.compile(r"(?P<low>[^<>=]+)(?P<first><=?)(?P<name>[^<>=]+)(?P<second><=?)(?P<high>[^<>=]+)")
_ONE_SIDED = re.compile(r"(?P<left>[^<>=]+)(?P<sign>[<>]=?)(?P<right>[^<>=]+)")
_JOINED = re.compile(r" and | or |,|;")


@dataclass(frozen=True, slots=True)
class Piece:
    """One value, or several between brackets; where there are several pieces their order means nothing."""

    brackets: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A problem's answer and how it may be given.

    ``unit`` is what the problem asks for, "" for a bare number; None where the problem does not say, and a word of its text may
    follow. ``names`` are the letters solved for, in the order of a tuple. ``tolerance``: how far a decimal may be off.
    """

    question: str
    answer: str
    form: Form = "value"
    unit: str | None = ""
    names: tuple[str, ...] = ()
    tolerance: Fraction | None = None
    percent: bool = False

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Wanted:
        """Read a task's payload."""
        tolerance = payload["tolerance"]
        return cls(
            payload["question"],
            payload["answer"],
            payload["form"],
            payload["unit"],
            tuple(payload["names"]),
            None if tolerance is None else Fraction(tolerance),
            payload["percent"],
        )

    def gold(self) -> tuple[Piece, ...]:
        """The right answer. Raises ValueError when it is none that can be judged."""
        pieces = self._pieces(tidy(self.answer))
        if pieces is None:
            raise ValueError(
                f"the answer {self.answer!r} is none that can be judged: a number, a closed expression, a tuple, a set, an interval"
            )
        return pieces

    def read(self, text: str) -> tuple[Piece, ...] | None:
        """The answer that a committed text gives, or None when it gives none, or leaves something to compute."""
        gold = self.gold()
        pieces = self._pieces(tidy(text))
        if pieces is None:
            return None
        right = [value for piece in gold for value in piece.values if not isinstance(value, Fraction | str)]
        words = {word for node in right for word in vocabulary(node)}
        for value in (value for piece in pieces for value in piece.values):
            if isinstance(value, Fraction | str) or value in right:
                continue
            if not settled(value) or not vocabulary(value) <= words or not _shaped_like(value, right):
                return None
        return pieces

    def _pieces(self, text: str) -> tuple[Piece, ...] | None:
        if self.form == "interval":
            return _intervals(text, self.names)
        if self.form == "tuple":
            values = self._tuple(text)
            return None if values is None else (Piece("()", values),)
        if self.form == "set":
            return self._set(text)
        value = self._value(text)
        return None if value is None else (Piece("", (value,)),)

    def _value(self, text: str) -> Value | None:
        """One value, perhaps with the name it is solved for, the working it comes from, and its unit."""
        *before, text = text.split("=")
        number = self._measured(text.strip())
        for side in map(str.strip, before):
            if not self._names(side) and not (isinstance(number, Fraction) and _works_out(side, number)):
                return None
        return number

    def _names(self, side: str) -> bool:
        if self.unit is None:  # a problem from a file: any letter that it mentions
            return (
                len(side) == 1
                and side.isalpha()
                and re.search(rf"(?<![A-Za-z\\]){side}(?![A-Za-z])", self.question) is not None
            )
        return side in self.names

    def _measured(self, text: str) -> Value | None:
        if self.tolerance is not None:
            text = re.sub(r"^(?:≈|~|\\approx|about|approximately|roughly) ?", "", text)
        of_file = self.unit is None
        bare = units.without_words(text, self.question) if of_file else units.without(text, self.unit or "")
        if bare.endswith("%"):
            share = literal(bare[:-1].strip())
            return share / 100 if share is not None and (self.percent or self._percent_of_file(bare)) else None
        return _value(bare)

    def _percent_of_file(self, bare: str) -> bool:
        return self.unit is None and bare.replace(" ", "") not in self.question.replace(" ", "").replace("\\", "")

    def _tuple(self, text: str) -> tuple[Value, ...] | None:
        """(2, 5), or each part with its name in any order."""
        bracketed = _BRACKETED.fullmatch(text)
        if bracketed and bracketed["open"] == "(" and bracketed["close"] == ")":
            text = bracketed["inside"]
        elif self.names:
            left, equals, right = text.partition("=")
            inner = _BRACKETED.fullmatch(right.strip())
            whole = "(" + ",".join(self.names) + ")"
            if equals and inner and left.replace(" ", "") == whole and inner["open"] + inner["close"] == "()":
                text = inner["inside"]
        parts = _split(text)
        if any("=" in part for part in parts):
            named: dict[str, str] = {}
            for part in parts:
                name, _, value = part.partition("=")
                named[name.strip()] = value.strip()
            if len(named) != len(parts) or set(named) != set(self.names):
                return None
            parts = [named[name] for name in self.names]
        values = tuple(found for part in parts if (found := _value(part)) is not None)
        return values if 2 <= len(values) == len(parts) <= _MOST_PARTS else None

    def _set(self, text: str) -> tuple[Piece, ...] | None:
        """{1, 2}, or "x = 1 or x = 2", or "1 and 2", or ±3."""
        if text.startswith("{") and text.endswith("}"):
            text = text[1:-1]
        elif any(text.startswith(f"{name} in {{") and text.endswith("}") for name in self.names):
            text = text[text.index("{") + 1 : -1]
        parts: list[str] = []
        for part in _split(text):
            name, equals, value = part.partition("=")
            plain = value.strip() if equals and name.strip() in self.names else part
            parts += [plain.replace("±", "+", 1), plain.replace("±", "-", 1)] if "±" in plain else [plain]
        values = [found for part in parts if (found := _value(part.removeprefix("+").strip())) is not None]
        if len(values) != len(parts) or len(values) > _MOST_PARTS:
            return None
        return tuple(Piece("", (value,)) for value in values)


def _shaped_like(value: Node, right: list[Node]) -> bool:
    """A polynomial is expanded where the right answer is, and factored where it is."""
    if not vocabulary(value) - set(FUNCTIONS):
        return True
    return any(
        expanded(value) == expanded(node) and (expanded(node) or num_factors(value) == num_factors(node))
        for node in right
    )


def _value(text: str) -> Value | None:
    """An exact number, or an expression that is none."""
    text = text.strip()
    number = literal(text)
    if number is not None:
        return number
    if text.startswith("(") and text.endswith(")") and (number := literal(text[1:-1].strip())) is not None:
        return number
    node = parse(text)
    return None if node is None or rational_of(node) is not None else node


def _split(text: str) -> list[str]:
    """Parts between commas (or "and", "or") that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        joined = _JOINED.match(text, place) if depth == 0 else None
        if joined and place >= start:
            parts.append(text[start:place].strip())
            start = joined.end()
    parts.append(text[start:].strip())
    # "1, 2, and 3": the comma before the word leaves an empty part
    return [part.removeprefix("and ").removeprefix("or ") for part in parts]


def _works_out(side: str, number: Fraction) -> bool:
    """Is this side a computation, and not itself an answer, whose value is the number?"""
    if literal(side) is not None:
        return literal(side) == number
    return compute(parse(side)) == number


# ---------------------------------------------------------------------------------------------
# Intervals: [0, 1), 0 <= x < 1, x > 3, and unions of them
# ---------------------------------------------------------------------------------------------


def _intervals(text: str, names: tuple[str, ...]) -> tuple[Piece, ...] | None:
    for name in names:
        text = text.removeprefix(f"{name} in ")
    pieces = [_interval(part.strip(), names) for part in re.split(r" U | or ", f" {text} ")]
    found = tuple(piece for piece in pieces if piece is not None)
    return found if len(found) == len(pieces) <= 4 else None


def _interval(text: str, names: tuple[str, ...]) -> Piece | None:
    if bracketed := _BRACKETED.fullmatch(text):
        ends = [end.strip() for end in bracketed["inside"].split(",")]
        return _between(bracketed["open"], ends[0], ends[1], bracketed["close"]) if len(ends) == 2 else None
    if chain := _LOW_HIGH.fullmatch(text):
        brackets = "(" if chain["first"] == "<" else "[", ")" if chain["second"] == "<" else "]"
        return (
            _between(brackets[0], chain["low"], chain["high"], brackets[1]) if chain["name"].strip() in names else None
        )
    if one := _ONE_SIDED.fullmatch(text):
        left, sign, right = one["left"].strip(), one["sign"], one["right"].strip()
        if right in names and left not in names:
            left, sign, right = right, sign.translate(str.maketrans("<>", "><")), left
        if left not in names:
            return None
        closed = sign.endswith("=")
        if sign[0] == ">":
            return _between("[" if closed else "(", right, "inf", ")")
        return _between("(", "-inf", right, "]" if closed else ")")
    return None


def _between(opening: str, low: str, high: str, closing: str) -> Piece | None:
    ends: list[Value] = []
    for end in (low, high):
        plain = end.replace(" ", "").removeprefix("+")
        value: Value | None = "inf" if plain == "inf" else "-inf" if plain == "-inf" else _value(end)
        if value is None:
            return None
        ends.append(value)
    infinite = (
        (ends[0] == "-inf" and opening == "[")
        or (ends[1] == "inf" and closing == "]")
        or ends[0] == "inf"
        or ends[1] == "-inf"
    )
    return None if infinite else Piece(opening + closing, tuple(ends))
