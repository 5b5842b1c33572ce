"""The entities of an application: nouns of every kind with facts, counts, a status, and refs to one another."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from openk2.worlds.evolve.lexicon import Category, Count, Kind, Move
from openk2.worlds.spec import Entity, Field

STATUS = ("status", "status", "state", "stage", "phase")
KEYS = ("{}_id", "{}_id", "{}_number", "{}_code", "{}_ref", "{}")


@dataclass(frozen=True, slots=True)
class Noun:
    """An entity and what people do with it."""

    entity: Entity
    status: Field
    counts: tuple[Count, ...]
    moves: tuple[Move, ...]

    @property
    def refs(self) -> tuple[Field, ...]:
        """Its columns that point to records."""
        return tuple(field for field in self.entity.fields if field.ref)


def draw_nouns(category: Category, num_entities: int, rng: Random) -> tuple[Noun, ...]:
    """Entities, at least one of every kind; refs lead to earlier ones, so that records can be made in this order."""
    chosen = [(kind, noun) for kind in category.kinds.values() for noun in kind.nouns]
    first = [(kind, rng.choice(kind.nouns)) for kind in category.kinds.values()]
    rest = [pair for pair in chosen if pair not in first]
    wanted = {noun for _, noun in (*first, *rng.sample(rest, num_entities - len(first)))}
    key, status = rng.choice(KEYS), rng.choice(STATUS)
    nouns: list[Noun] = []
    for kind, name in chosen:
        if name in wanted:
            nouns.append(_noun(kind, name, key, status, [noun.entity for noun in nouns], rng))
    return tuple(nouns)


def _noun(kind: Kind, name: str, key: str, status: str, earlier: list[Entity], rng: Random) -> Noun:
    counts = tuple(rng.sample(kind.counts, rng.choice((1, 2, 2))))
    moves = tuple(rng.sample(kind.moves, rng.randint(3, len(kind.moves))))
    values = (*kind.starts, *(move.target for move in moves))
    column = Field(status, "enum", tuple(dict.fromkeys(values)))
    facts = [*_some(kind.facts, 2, 4, rng), *_some(kind.general, 1, 3, rng)]
    refs = [_ref(other, rng) for other in rng.sample(earlier, min(len(earlier), rng.choice((0, 1, 1, 2))))]
    if rng.random() < 0.15:
        refs.append(Field(f"parent_{name}", "ref", ref=name, optional=True))
    middle = [*facts, *(count.field for count in counts)]
    rng.shuffle(middle)
    fields = (Field(key.format(name), "code"), *refs, *middle, column)
    return Noun(Entity(name, fields), column, counts, moves)


def _some(fields: tuple[Field, ...], fewest: int, most: int, rng: Random) -> list[Field]:
    return rng.sample(fields, min(len(fields), rng.randint(fewest, most)))


def _ref(other: Entity, rng: Random) -> Field:
    return Field(other.name, "ref", ref=other.name, optional=rng.random() < 0.25)
