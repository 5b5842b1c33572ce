"""What a problem wants, and an answer read as that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from openk2.gym.stem import units
from openk2.gym.stem.expression import FUNCTIONS, Node, Number, Root, parse, vocabulary, walk
from openk2.gym.stem.forms import Form, Piece, Value, intervals_in, set_in, tuple_in, value_in
from openk2.gym.stem.literal import literal
from openk2.gym.stem.settled import compute, expanded, num_factors, settled
from openk2.gym.stem.tidy import tidy

_ABOUT = re.compile(r"^(?:≈|~|\\approx|about|approximately|roughly) ?")
_PERCENT = re.compile(r"(?i)%|per ?cent")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A problem's answer and how it may be given.

    ``unit`` is what the problem asks for, "" for a bare number; None where the problem does not say (one from a file): then a word of
    its text may follow. ``names`` are the letters solved for, in the order of a tuple. ``tolerance``: how far a decimal may be off.
    ``percent``: 50% says 1/2.
    In a problem from a file it says 50 where the problem speaks of percent.
    """

    question: str
    answer: str
    form: Form
    unit: str | None
    names: tuple[str, ...]
    tolerance: Fraction | None
    percent: bool

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Wanted:
        """Read a task's payload."""
        question, answer, form, unit = (payload[key] for key in ("question", "answer", "form", "unit"))
        tolerance = None if payload["tolerance"] is None else Fraction(payload["tolerance"])
        return cls(question, answer, form, unit, tuple(payload["names"]), tolerance, payload["percent"])

    def gold(self) -> tuple[Piece, ...]:
        """The right answer. Raises ValueError when it is none that can be judged."""
        pieces = self._pieces(tidy(self.answer))
        if pieces is None:
            raise ValueError(
                f"the answer {self.answer!r} cannot be judged: want a number, a closed expression, a tuple, a set or intervals"
            )
        return pieces

    def read(self, text: str) -> tuple[Piece, ...] | None:
        """The answer that a committed text gives, or None when it gives none, or leaves something to compute."""
        pieces = self._pieces(tidy(text))
        if pieces is None:
            return None
        right = _expressions(self.gold())
        words = {word for node in right for word in vocabulary(node)}
        for node in _expressions(pieces):
            known = settled(node) and vocabulary(node) <= words and _shaped_like(node, right)
            if node not in right and (not known or self._copied(text, node, right)):
                return None
        return pieces

    def _copied(self, text: str, node: Node, right: list[Node]) -> bool:
        """Does it stand in the question already, or one of its roots that the right answer has not?"""
        question = tidy(self.question).replace(" ", "")
        known = {part for model in right for part in walk(model)}
        roots = [part.of for part in walk(node) if isinstance(part, Root) and part not in known]
        under = [root.value for root in roots if isinstance(root, Number)]
        return tidy(text).replace(" ", "") in question or any(
            re.search(rf"sqrt[({{]?{value}(?![0-9])", question) for value in under
        )

    def _pieces(self, text: str) -> tuple[Piece, ...] | None:
        match self.form:
            case "interval":
                return intervals_in(text, self.names)
            case "tuple":
                return tuple_in(text, self.names)
            case "set":
                return set_in(text, self.names)
            case "value":
                value = self._value(text)
                return None if value is None else (Piece("", (value,)),)

    def _value(self, text: str) -> Value | None:
        """One value, perhaps after the name it is solved for and the working it comes from."""
        *before, last = map(str.strip, text.split("="))
        value = self._measured(last)
        for side in before:
            if not self._is_name(side) and not (isinstance(value, Fraction) and _works_out(side, value)):
                return None
        return value

    def _is_name(self, side: str) -> bool:
        if self.unit is not None:
            return side in self.names
        letter = len(side) == 1 and side.isalpha()
        return letter and re.search(rf"(?<![A-Za-z\\]){side}(?![A-Za-z])", self.question) is not None

    def _measured(self, text: str) -> Value | None:
        """A value with its unit, or a percentage that says a share."""
        if self.tolerance is not None:
            text = _ABOUT.sub("", text)
        if self.unit is None:
            text = units.without_words(text, self.question)
            if _PERCENT.search(self.question):
                text = units.without(text, "%")
        else:
            text = units.without(text, self.unit)
        share = literal(units.without(text, "%")) if self.percent or self.unit is None else None
        return share / 100 if share is not None and units.without(text, "%") != text else value_in(text)


def _expressions(pieces: tuple[Piece, ...]) -> list[Node]:
    return [value for piece in pieces for value in piece.values if not isinstance(value, Fraction | str)]


def _shaped_like(node: Node, right: list[Node]) -> bool:
    """A polynomial is expanded where the right answer is, and has as many factors where that is factored."""
    if not vocabulary(node) - set(FUNCTIONS):
        return True
    return any(
        expanded(node) == expanded(model) and (expanded(model) or num_factors(node) == num_factors(model))
        for model in right
    )


def _works_out(side: str, value: Fraction) -> bool:
    """Is the value what this side of an equation comes to?"""
    number = literal(side)
    return (compute(parse(side)) if number is None else number) == value
