"""What answers are compared by: core and prescriptive rubrics for every task, its own on top (K2 §3.2)."""

from __future__ import annotations

from openk2.schema import RubricItem, Task


def _judged(name: str, statement: str) -> RubricItem:
    return RubricItem(name, "judged", {"statement": statement})


CORE = (
    _judged(
        "clear",
        "It is to the point: it deals with what was asked, all of it and nothing beside it, in a form that suits the "
        "question, without needless length.",
    ),
    _judged(
        "fluent",
        "It reads as natural speech of an attentive partner: it flows, takes up what the other said, and moves the "
        "conversation on where that helps.",
    ),
    _judged(
        "grounded",
        "It stays with the matter: what it says is so and can be traced to what was given; it neither flatters nor "
        "comments on itself or on who asks.",
    ),
)
"""Clarity and relevance, conversational fluency and engagement, objective and grounded interaction."""

PRESCRIPTIVE = (
    _judged("no praise", "It does not open with a compliment to the question or to who asks it."),
    _judged("no justification", "No sentence explains why the answer is good, or how well it does what was asked."),
)
"""What keeps a policy from pleasing its critic with manners instead of substance."""


def rubrics_of(task: Task) -> tuple[RubricItem, ...]:
    """All rubrics its answers are compared by: core, prescriptive, and the judged items of its own rubric.

    Raises ValueError for a judged item without a statement.
    """
    own = () if task.rubric is None else tuple(item for item in task.rubric.items if item.check == "judged")
    for item in own:
        if "statement" not in item.spec:
            raise ValueError(
                f'task "{task.id}", rubric item {item.name!r}: a judged item has a `statement` in its spec'
            )
    return (*CORE, *PRESCRIPTIVE, *own)
