"""Facts that a context tells in two ways: put right by a later statement, or left to two sources that disagree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from openk2.gym.faithfulness.world import Fact

DISPUTABLE = ("year", "day", "metres", "crowns", "count", "place")
SOURCES = ("Register", "Gazette")


@dataclass(frozen=True, slots=True)
class Dispute:
    """A fact that the context tells in two ways: ``fact`` and, with another value, ``older``."""

    fact: Fact
    older: str
    source: str
    other_source: str

    @property
    def outdated(self) -> Fact:
        """What is said beside the fact."""
        return replace(self.fact, value=self.older)


def attributed(source: str, said: str) -> str:
    """A sentence as the word of a source."""
    return f"According to the {source}, {said}"


def corrected(dispute: Dispute, say: Callable[[Fact], str]) -> tuple[str, str]:
    """The outdated statement, and a later one that puts it right."""
    fact = dispute.fact
    wordings = iter(lambda: say(fact), None)
    said = next(
        each for each in wordings if each.find(fact.value) > each.find(fact.subject) or fact.relation.value != "place"
    )
    return say(dispute.outdated), f"Correction: {said[:-1]}, not {dispute.older}."


def conflicting(dispute: Dispute, say: Callable[[Fact], str]) -> tuple[str, str]:
    """What each of two sources says."""
    return attributed(dispute.source, say(dispute.fact)), attributed(dispute.other_source, say(dispute.outdated))


DISPUTES: dict[str, Callable[[Dispute, Callable[[Fact], str]], tuple[str, str]]] = {
    "correction": corrected,
    "conflict": conflicting,
}
"""How a context tells a fact in two ways; the second statement comes later in it."""
