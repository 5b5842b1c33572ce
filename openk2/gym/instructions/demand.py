"""One demand on a reply's form: how it is said, what is checked, and how a right reply meets it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from openk2.gym.instructions.bases import Base
from openk2.gym.instructions.draft import Draft
from openk2.schema import JSON


Write = Callable[[Draft], None]


@dataclass(frozen=True, slots=True)
class Demand:
    """``write`` has a draft meet the ``spec`` that ``say`` puts in words."""

    spec: JSON
    say: str
    write: Write


@dataclass(frozen=True, slots=True)
class Maker:
    """Draws demands of one sort. ``claims`` are the sides of a reply that it decides alone: makers that share one do not go together."""

    make: Callable[[random.Random, Base], Demand]
    claims: frozenset[str]


def maker(make: Callable[[random.Random, Base], Demand], *claims: str) -> Maker:
    """A maker and what it claims: "layout", "opening", "closing", "length", "mark", "case", "digits", "verb", "wrap", "lead"."""
    return Maker(make, frozenset(claims))


def adding(*sentences: str) -> Write:
    """Says more behind the statements."""

    def write(draft: Draft) -> None:
        draft.extra += sentences

    return write


def touching(touch: Callable[[str], str]) -> Write:
    """Changes the text in the end."""

    def write(draft: Draft) -> None:
        draft.touch.append(touch)

    return write


def setting(**sides: object) -> Write:
    """Decides some sides of the draft."""

    def write(draft: Draft) -> None:
        for side, value in sides.items():
            setattr(draft, side, value)

    return write


WHOLE = ("layout", "opening", "closing", "length", "mark", "lead", "wrap", "extra")
"""What a reply claims that is nothing but a table, or data."""
