"""One demand on a reply's form: how it is said, what is checked, and how a right reply meets it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from openk2.gym.instructions.bases import Base
from openk2.gym.instructions.draft import Draft
from openk2.schema import JSON

Write = Callable[[Draft], None]


@dataclass(frozen=True, slots=True)
class Demand:
    """``write`` has a draft meet the ``spec`` that ``say`` puts in words; ``content`` is added to what has to be stated."""

    spec: JSON
    say: str
    write: Write
    content: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Maker:
    """Draws demands of one sort.

    ``claims`` are the sides of a reply that it decides alone, ``uses`` those it needs but shares with others that use them.
    """

    make: Callable[[random.Random, Base], Demand]
    claims: frozenset[str]
    uses: frozenset[str]

    def goes_with(self, other: Maker) -> bool:
        """Whether neither claims what the other claims or uses."""
        return not (self.claims & (other.claims | other.uses) or other.claims & self.uses)


def maker(make: Callable[[random.Random, Base], Demand], *claims: str, uses: Sequence[str] = ()) -> Maker:
    """A maker with what it claims and uses.

    Sides are "layout", "opening", "closing", "extra" (sentences behind the statements), "length", "mark", "case", "digits",
    "verb", "lead", "emphasis", "commas", "wrap", "mentions" (of a word) and "plain" (heads as they are).
    """
    return Maker(make, frozenset(claims), frozenset(uses))


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
