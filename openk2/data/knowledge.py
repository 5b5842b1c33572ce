"""Generated knowledge: invented entities, told in prose, asked and answered within the document (K2 §2.2)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openk2.data.documents import Document
from openk2.data.values import Values


@dataclass(frozen=True)
class _Attribute:
    """A fact: how its value is made, how it is told ({e} entity, {v} value), how it is asked."""

    make: Callable[[Values], str]
    told: tuple[str, ...]
    asked: str


_KINDS: dict[str, tuple[Callable[[Values], str], tuple[_Attribute, ...]]] = {
    "town": (
        Values.name,
        (
            _Attribute(Values.name, ("{e} lies on the river {v}.", "The river {v} flows through {e}."), "Which river flows through {e}?"),
            _Attribute(Values.person, ("{v} is the mayor of {e}.", "The mayor of {e} is {v}."), "Who is the mayor of {e}?"),
            _Attribute(Values.number, ("{v} people live in {e}.", "{e} has {v} inhabitants."), "How many people live in {e}?"),
            _Attribute(Values.word, ("{e} is known for its {v}.", "Visitors come to {e} for its {v}."), "What is {e} known for?"),
            _Attribute(Values.name, ("{e} belongs to the region of {v}.", "In the region of {v} lies {e}."), "To which region does {e} belong?"),
        ),
    ),
    "person": (
        Values.person,
        (
            _Attribute(Values.name, ("{e} was born in {v}.", "The birthplace of {e} is {v}."), "Where was {e} born?"),
            _Attribute(Values.word, ("{e} works as a {v}.", "The profession of {e} is {v}."), "What is the profession of {e}?"),
            _Attribute(Values.person, ("{e} is married to {v}.", "{v} is the spouse of {e}."), "To whom is {e} married?"),
            _Attribute(Values.date, ("The birthday of {e} is {v}.", "On {v}, {e} was born."), "When was {e} born?"),
            _Attribute(Values.email, ("Letters to {e} go to {v}.", "{e} can be reached at {v}."), "How can {e} be reached?"),
        ),
    ),
    "company": (
        Values.name,
        (
            _Attribute(Values.person, ("{e} was founded by {v}.", "{v} founded {e}."), "Who founded {e}?"),
            _Attribute(Values.name, ("{e} has its seat in {v}.", "The seat of {e} is in {v}."), "Where is the seat of {e}?"),
            _Attribute(Values.phrase, ("{e} makes {v}.", "The main product of {e} is {v}."), "What does {e} make?"),
            _Attribute(Values.number, ("{e} employs {v} people.", "The staff of {e} counts {v} people."), "How many people does {e} employ?"),
            _Attribute(Values.amount, ("A share of {e} costs {v} crowns.", "{v} crowns is the price of a share of {e}."), "What does a share of {e} cost?"),
        ),
    ),
    "machine": (
        Values.code,
        (
            _Attribute(Values.person, ("The {e} was designed by {v}.", "{v} designed the {e}."), "Who designed the {e}?"),
            _Attribute(Values.amount, ("The {e} weighs {v} kilograms.", "The weight of the {e} is {v} kilograms."), "How many kilograms does the {e} weigh?"),
            _Attribute(Values.date, ("The {e} was first shown on {v}.", "On {v} the {e} was first shown."), "When was the {e} first shown?"),
            _Attribute(Values.word, ("The {e} runs on {v}.", "{v} is the fuel of the {e}."), "What does the {e} run on?"),
            _Attribute(Values.code, ("The {e} replaces the {v}.", "The {v} was replaced by the {e}."), "What did the {e} replace?"),
        ),
    ),
}  # fmt: skip


def knowledge(seed: int, source: str = "knowledge") -> Iterator[Document]:
    """Documents without end, the same for the same seed: facts of one to three entities, then questions."""
    values = Values(random.Random(seed))
    kinds = sorted(_KINDS)
    while True:
        told: list[str] = []
        answers: list[tuple[str, str]] = []
        kind = values.pick(kinds)
        make_entity, attributes = _KINDS[kind]
        for entity in values.distinct(lambda: make_entity(values), values.between(1, 3)):  # noqa: B023 - used at once
            told.append(f"{entity} is a {kind}.")
            for attribute in values.shuffled(attributes)[: values.between(2, len(attributes))]:
                value = attribute.make(values)
                told.append(values.pick(attribute.told).format(e=entity, v=value))
                answers.append((attribute.asked.format(e=entity), value))
        questions = [f"{asked} {value}." for asked, value in values.shuffled(answers)[: values.between(2, 6)]]
        yield Document(((" ".join(told) + "\n" + "\n".join(questions) + "\n", True),), source)
