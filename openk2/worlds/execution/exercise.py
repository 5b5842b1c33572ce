"""What the families write: a folder to begin with, a request, a plan that solves it, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openk2.schema import JSON, Rubric, RubricItem, Task

FAMILY = "execution"


@dataclass(frozen=True, slots=True)
class Exercise:
    """One task of a family.

    ``files`` lie in the work folder, ``setup`` is a shell script run there. ``plan``: tool and arguments. ``inputs`` and ``outputs`` are
    hidden cases of a Python function: the inputs enter a box when the agent is done, the outputs never do.
    """

    kind: str
    request: str
    files: Mapping[str, str]
    plan: tuple[tuple[str, JSON], ...]
    items: tuple[RubricItem, ...]
    answer: str = "Done."
    setup: str = ""
    inputs: tuple[JSON | list[int] | list[str], ...] = ()
    outputs: tuple[object, ...] = field(default=())

    def to_task(self, family: str, split: str, index: int) -> Task:
        """The task, whole, as plain data."""
        payload = {
            "family": family, "request": self.request, "files": dict(self.files), "setup": self.setup,
            "plan": [{"tool": tool, "arguments": arguments} for tool, arguments in self.plan], "answer": self.answer,
            "inputs": list(self.inputs), "outputs": list(self.outputs),
        }  # fmt: skip
        rubric = Rubric(self.items)
        return Task(task_id(family, split, index), FAMILY, self.kind, split, payload, rubric, (family,))


def task_id(family: str, split: str, index: int) -> str:
    """The id of a family's task."""
    return f"{FAMILY}-{family}-{split}-{index:05d}"


def has(entity: str, key: str, **fields: object) -> RubricItem:
    """A record must hold these values."""
    return RubricItem(f"{entity} {key}", "state", {"entity": entity, "key": key, "has": fields})


def gone(entity: str, key: str) -> RubricItem:
    """A record must be there no more."""
    return RubricItem(f"no {entity} {key}", "state", {"entity": entity, "key": key, "gone": True})


def only(*records: tuple[str, str]) -> RubricItem:
    """Nothing but these records may have changed."""
    return RubricItem("nothing else", "state", {"only": [list(record) for record in records]})


def says(value: str | int) -> RubricItem:
    """The answer must name a value that a tool has shown."""
    return RubricItem(f"says {value}", "fact", {"value": value, "grounded": True})
