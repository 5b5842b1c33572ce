"""A right reply in the making: what it says, and how the demands of a task have it laid out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from openk2.gym.instructions.numerals import spelled

FILLER = (
    "Everything was written down with care", "The notes were easy to follow", "A calm afternoon gave time for this",
    "The list is kept in a blue folder", "Somebody will look at it again next week", "The room was quiet all day",
    "Tea was served while the counting went on", "The shelves were dusted before lunch", "Rain fell on the roof outside",
    "A friendly dog slept by the door", "The window stood open for a while", "The lamp was lit early in the evening",
    "Good company makes such work pleasant", "The pencil had to be sharpened often", "Later the path was swept",
    "The old clock ticked in the corner", "Bread and jam were passed around", "The garden smelled of fresh grass",
    "A neighbour waved from across the street", "The kettle sang in the kitchen", "Warm light filled the hall",
    "The key hangs beside the gate", "Songs were heard from the yard", "The day ended with a long walk",
)  # fmt: skip
"""Sentences that state nothing a task asks for."""


@dataclass(slots=True)
class Draft:
    """What is said, in order (``statements`` with a place for ``verb``, ``rows`` with the same in cells under ``columns``), and how it is laid out.

    ``arrange`` joins the lines of statements; ``opening`` and ``closing`` are lines around them; ``extra`` are sentences behind
    them. Then numbers are written out, words put in capitals, the case set and the whole wrapped.
    """

    statements: list[str]
    rows: list[list[str]]
    columns: list[str]
    verb: str
    leads: list[str] = field(default_factory=list)
    arrange: Callable[[Sequence[str]], str] = " ".join
    mark: str = "."
    opening: str = ""
    closing: str = ""
    extra: list[str] = field(default_factory=list)
    whole: Callable[[Draft], str] | None = None  # takes the place of all statements and lines
    spell: bool = False
    touch: list[Callable[[str], str]] = field(default_factory=list)
    wrap: Callable[[str], str] | None = None

    def text(self) -> str:
        """The reply."""
        text = self._body() if self.whole is None else self.whole(self)
        if self.spell:
            text = re.sub(r"\d+", lambda match: spelled(int(match[0])), text)
        for touch in self.touch:
            text = touch(text)
        return text if self.wrap is None else self.wrap(text)

    def sentences(self) -> list[str]:
        """The statements with their verb, without end marks."""
        return [statement.format(verb=self.verb) for statement in self.statements]

    def _body(self) -> str:
        leads = self.leads or [""] * len(self.statements)
        said = [_led(lead, one) + self.mark for lead, one in zip(leads, self.sentences(), strict=True)]
        extra = " ".join(sentence + self.mark for sentence in self.extra)
        return "\n".join(part for part in (self.opening, self.arrange(said), extra, self.closing) if part)


def _led(lead: str, statement: str) -> str:
    return f"{lead} {statement}" if lead else statement[:1].upper() + statement[1:]
