"""What a program cannot check of a conversation, as statements for a judge; and episodes whose success a program knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

from openk2.schema import RubricItem
from openk2.worlds.endpoint.judge import Labelled
from openk2.worlds.scenario.agent import MANNERS
from openk2.worlds.scenario.conversation import Conversation, Scenario
from openk2.worlds.scenario.faults import NO_FAULTS
from openk2.worlds.scenario.teacher import Teacher

SUCCEEDED = (
    "The assistant did everything the user asked for, with the right records and values and nothing beside it, and its "
    "answers give what the user wanted to know, as the tools showed it."
)


def soft_items(scenario: Scenario, lines: Sequence[str]) -> tuple[RubricItem, ...]:
    """Demands on manner. ``lines`` are what the user was to say, where a model said it in other words."""
    statements = {
        "polite": "Every answer of the assistant is polite and free of blame.",
        "concise": "No answer of the assistant holds more than what the user asked for and needs to know.",
        "supported": "Every result that the assistant reports as a fact was shown by a tool before, or said by the user.",
        "manner": f"The assistant keeps to this manner in its answers: {MANNERS[scenario.agent.manner]}",
    }
    if lines:
        spoken = " / ".join(lines)
        statements["meaning"] = (
            f"In turn, the user's messages ask for the same as these lines, in other words: {spoken}"
        )
    return tuple(RubricItem(name, "judged", {"statement": words}) for name, words in statements.items())


def labelled(scenarios: Iterator[Scenario], num: int) -> list[Labelled]:
    """``num`` episodes of the scripted teacher, good ones and sloppy ones by turns, labelled by the programmatic rubric."""
    return list(islice((case for scenario in scenarios for case in _pair(scenario)), num))


def _pair(scenario: Scenario) -> Iterator[Labelled]:
    for sloppiness in (0.0, 1.0):
        with closing(Conversation(scenario, 0, NO_FAULTS)) as conversation:
            messages = Teacher(scenario, seed=0, sloppiness=sloppiness).play(conversation)
            yield Labelled(SUCCEEDED, tuple(messages), conversation.score().passed)
