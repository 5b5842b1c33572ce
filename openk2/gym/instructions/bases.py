"""What generated tasks are about: small notes with facts to state, choose from, put in order, add up or say anew."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openk2.gym.names import invented_names
from openk2.schema import JSON

THINGS = ("cups", "pens", "books", "lamps", "coins", "shells", "ropes", "boots", "maps", "plates", "spoons", "bells")
PLACES = ("Oslo", "Lima", "Cairo", "Quito", "Delhi", "Paris", "Tunis", "Hanoi")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EACH = "Give every one a line or a sentence of its own, and use no other numbers."


@dataclass(frozen=True, slots=True)
class Base:
    """A request, what a reply has to state (``content``), and one way to state it: sentences whose verb may be chosen.

    ``key`` is the problem without its wording. ``rows`` hold the same facts in cells under ``columns``, the head first.
    """

    request: str
    content: JSON
    key: str
    statements: tuple[str, ...]
    verbs: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def heads(self) -> list[str]:
        """Who or what each entry is about."""
        return [row[0] for row in self.rows]


def inventory(rng: random.Random, count: int) -> Base:
    """Say who has how many of what."""
    rows = _holdings(rng, count)
    asked = rng.choice(("Tell the reader what each person has", "Say what each person has", "Report what each has"))
    return _base(f"{asked}. {EACH}", _notes(rows), rows)


def selection(rng: random.Random, count: int) -> Base:
    """Say what those of one place have, and leave the others out."""
    rows = _holdings(rng, count + rng.randint(2, 4))
    here, *elsewhere = rng.sample(PLACES, 3)
    places = [here] * count + [rng.choice(elsewhere) for _ in rows[count:]]
    listed = [(*row, place) for row, place in zip(rows, places, strict=True)]
    rng.shuffle(listed)
    notes = "\n".join(f"{name}, {place}: {number} {thing}" for name, number, thing, place in listed)
    chosen = [(name, number, thing) for name, number, thing, place in listed if place == here]
    asked = f"Say what each person in {here} has, and mention nobody else from the notes. {EACH}"
    return _base(asked, notes, chosen, absent=[row[0] for row in listed if row[3] != here])


def ordering(rng: random.Random, count: int) -> Base:
    """Say who has how many, from the fewest to the most or the other way round."""
    rows = _holdings(rng, count)
    down = rng.random() < 0.5
    ends = ("most", "fewest") if down else ("fewest", "most")
    ordered = sorted(rows, key=lambda row: int(row[1]), reverse=down)
    asked = (
        f"Say what each person has, in order from whoever has the {ends[0]} things to whoever has the {ends[1]}. {EACH}"
    )
    return _base(asked, _notes(rows), ordered, ordered=True)


def total(rng: random.Random, count: int) -> Base:
    """Say who has how many, and how many these are together."""
    thing = rng.choice(THINGS)
    rows = [(name, number) for name, number, _ in _holdings(rng, count)]
    notes = "\n".join(f"{name}: {number} {thing}" for name, number in rows)
    together = str(sum(int(number) for _, number in rows))
    asked = f'Say how many {thing} each person has, then the total, with the word "total" and nobody\'s name. {EACH}'
    statements = (*(f"{name} {{verb}} {number} {thing}" for name, number in rows), f"the total is {together}")
    whole = (*rows, ("total", together))
    content = _content(asked, whole, ordered=False, absent=[])
    return Base(f"{asked}\n\n{notes}", content, notes, statements, _HAS, ("name", "number"), whole)


def retelling(rng: random.Random, count: int) -> Base:
    """Say a short report in other words, with every name, number, thing, place and day."""
    rows = [
        (name, number, thing, place, day)
        for (name, number, thing), place, day in zip(
            _holdings(rng, count), rng.sample(PLACES, count), rng.sample(DAYS, count), strict=True
        )
    ]
    form = rng.choice((
        "On {day} {name} took {number} {thing} to {place}.",
        "{number} {thing} went to {place} with {name} on {day}.",
        "It was {name} who moved {number} {thing} to {place} on {day}.",
    ))  # fmt: skip
    columns = ("name", "number", "thing", "place", "day")
    told = [form.format(**dict(zip(columns, row, strict=True))) for row in rows]
    asked = f"Retell this report in other words, copying no sentence. Keep each name with its number, thing, place and day. {EACH}"
    statements = tuple(
        f"{name} {{verb}} {number} {thing} to {place} on {day}" for name, number, thing, place, day in rows
    )
    content = _content(asked, rows, ordered=False, absent=[])
    content["unsaid"] += [sentence.rstrip(".") for sentence in told]
    return Base(f"{asked}\n\n{' '.join(told)}", content, " ".join(told), statements, ("brought", "carried", "sent"), columns, tuple(rows))  # fmt: skip


BASES: dict[str, Callable[[random.Random, int], Base]] = {
    "inventory": inventory, "selection": selection, "ordering": ordering, "total": total, "retelling": retelling,
}  # fmt: skip
_HAS = ("has", "owns", "holds", "keeps")


def _holdings(rng: random.Random, count: int) -> list[tuple[str, str, str]]:
    """Different names, numbers from 2 to 99 and things."""
    names = [name for name in invented_names(rng, count + 2) if name not in ("Six", "Ten")][:count]
    numbers, things = rng.sample(range(2, 100), count), rng.sample(THINGS, count)
    return [(name, str(number), thing) for name, number, thing in zip(names, numbers, things, strict=True)]


def _notes(rows: list[tuple[str, str, str]]) -> str:
    return "\n".join(f"{name}: {number} {thing}" for name, number, thing in rows)


def _base(
    asked: str, notes: str, rows: list[tuple[str, str, str]], *, ordered: bool = False, absent: list[str] | None = None
) -> Base:
    content = _content(asked, rows, ordered=ordered, absent=absent or [])
    statements = tuple(f"{name} {{verb}} {number} {thing}" for name, number, thing in rows)
    return Base(f"{asked}\n\n{notes}", content, notes, statements, _HAS, ("name", "number", "thing"), tuple(rows))


def _content(asked: str, rows: Sequence[tuple[str, ...]], *, ordered: bool, absent: list[str]) -> JSON:
    unsaid = [sentence.strip() for sentence in asked.split(". ") if sentence.strip()]
    return {"entries": [list(row) for row in rows], "ordered": ordered, "absent": absent, "unsaid": unsaid}
