"""Zebra puzzles: who lives where with what, from clues; constraint search proves that one assignment obeys them (K2 §3.2)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from openk2.gym.final import FORM
from openk2.gym.names import invented_names
from openk2.gym.puzzles.kind import Kind
from openk2.gym.single_turn import Question

_VALUES: Mapping[str, tuple[str, ...]] = {
    "colour": ("red", "blue", "green", "white", "yellow", "black", "brown"),
    "pet": ("cat", "dog", "parrot", "hamster", "goldfish", "snake", "rabbit"),
    "drink": ("tea", "coffee", "milk", "juice", "water", "cocoa", "lemonade"),
    "tool": ("saw", "drill", "brush", "spade", "rake", "ladder", "chisel"),
}
_WORDS = {"house", "name", *_VALUES, *(value for values in _VALUES.values() for value in values)}  # never a name
_PHRASES = {
    "colour": "the one in the {} house",
    "pet": "the one with the {}",
    "drink": "the one who drinks {}",
    "tool": "the owner of the {}",
}
_SIZE = {1: (4, 2), 2: (5, 2), 3: (5, 3)}  # houses; kinds of things beside the names
_MOST_CHARACTERS = 2000

Clue = tuple[str, str, str]
"""A relation and the two values it holds between; for "at", a value and the number of a house."""

_RELATIONS: Mapping[str, tuple[Callable[[int, int], bool], str]] = {
    "same": (lambda p, q: p == q, "{} is {}."),
    "different": (lambda p, q: p != q, "{} is not {}."),
    "left": (lambda p, q: p + 1 == q, "{} lives directly to the left of {}."),
    "beside": (lambda p, q: abs(p - q) == 1, "{} lives next to {}."),
    "before": (lambda p, q: p < q, "{} lives somewhere to the left of {}."),
    "apart": (lambda p, q: abs(p - q) != 1, "{} does not live next to {}."),
}
_AT = "{} lives in house {}."
# How often a relation is drawn, by level.
_WEIGHTS: Mapping[int, Mapping[str, float]] = {
    1: {"at": 3, "same": 4, "left": 3, "beside": 2},
    2: {"at": 1, "same": 3, "different": 1, "left": 2, "beside": 3, "before": 2},
    3: {"at": 0.5, "same": 2, "different": 2, "left": 2, "beside": 3, "before": 3, "apart": 1},
}


def _draw(rng: random.Random, level: int) -> Question:
    num_houses, num_kinds = _SIZE[level]
    kinds = sorted(rng.sample(sorted(_VALUES), num_kinds))
    things = [rng.sample(_VALUES[kind], num_houses) for kind in kinds]
    names = [name for name in invented_names(rng, 2 * num_houses) if name.lower() not in _WORDS][:num_houses]
    table = [names, *things]
    clues = _clues(table, level, rng)
    phrase = {value: value for value in table[0]}
    for kind, values in zip(kinds, table[1:], strict=True):
        phrase |= {value: _PHRASES[kind].format(value) for value in values}
    told = "\n".join(f"- {_sentence(clue, phrase)}" for clue in clues)
    known = "; ".join(
        f"{kind}s: {', '.join(sorted(values))}" for kind, values in zip(("name", *kinds), table, strict=True)
    )
    text = (
        f"{num_houses} houses stand in a row, numbered 1 to {num_houses} from left to right. In each lives one person, and no two "
        f"have anything in common ({known}).\n{told}\n\n"
        f"{FORM} one line for each house: its number, then name, {', '.join(kinds)}, as in 1: NAME, {', '.join(map(str.upper, kinds))}."
    )
    answer = "\n".join(f"{house}: {', '.join(row)}" for house, row in enumerate(zip(*table, strict=True), start=1))
    facts = {"values": [sorted(values) for values in table], "kinds": kinds}
    return Question(text, answer, told, facts=facts)


def _clues(table: Sequence[Sequence[str]], level: int, rng: random.Random) -> list[Clue]:
    """True clues that leave one assignment and none of which could be left out."""
    groups = [sorted(values) for values in table]
    clues: list[Clue] = []
    while len(assignments(groups, clues)) > 1:
        clues = list(dict.fromkeys([*clues, *(_true_clue(table, level, rng) for _ in range(4))]))
    for clue in rng.sample(clues, len(clues)):
        fewer = [other for other in clues if other != clue]
        if len(assignments(groups, fewer)) == 1:
            clues = fewer
    return clues


def _true_clue(table: Sequence[Sequence[str]], level: int, rng: random.Random) -> Clue:
    weights = _WEIGHTS[level]
    while True:
        relation = rng.choices(list(weights), list(weights.values()))[0]
        (kind, p), (other, q) = ((rng.randrange(len(table)), rng.randrange(len(table[0]))) for _ in range(2))
        if relation == "at":
            return "at", table[kind][p], str(p + 1)
        # Only "same" is said of one house, and within one kind being the same or different says nothing.
        says_something = (relation == "same") == (p == q) and (kind != other or relation not in ("same", "different"))
        if says_something and _RELATIONS[relation][0](p, q):
            return relation, table[kind][p], table[other][q]


def _sentence(clue: Clue, phrase: Mapping[str, str]) -> str:
    relation, one, other = clue
    form = _AT if relation == "at" else _RELATIONS[relation][1]
    sentence = form.format(phrase[one], phrase.get(other, other))
    return sentence[0].upper() + sentence[1:]


# ---------------------------------------------------------------------------------------------
# The search: the houses where each value may be are the bits of a number
# ---------------------------------------------------------------------------------------------


def assignments(groups: Sequence[Sequence[str]], clues: Sequence[Clue], most: int = 2) -> list[dict[str, int]]:
    """Up to ``most`` ways to give the values of each group different houses, from 1, so that all clues hold."""
    num_houses = len(groups[0])
    domains = {value: (1 << num_houses) - 1 for values in groups for value in values}
    arcs: list[tuple[str, str, tuple[int, ...]]] = []
    for relation, one, other in clues:
        if relation == "at":
            domains[one] &= 1 << (int(other) - 1)
        else:
            forth, back = _supports(relation, num_houses)
            arcs += [(one, other, forth), (other, one, back)]
    found: list[dict[str, int]] = []
    _search(domains, groups, arcs, found, most)
    return found


@cache
def _supports(relation: str, num_houses: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For any houses of one value, the houses that the relation leaves the other: of its first value, of its second."""
    holds, houses = _RELATIONS[relation][0], range(num_houses)

    def left(related: Sequence[Sequence[bool]]) -> tuple[int, ...]:
        return tuple(
            sum(1 << p for p in houses if any(related[p][q] for q in houses if domain >> q & 1))
            for domain in range(1 << num_houses)
        )

    return left([[holds(p, q) for q in houses] for p in houses]), left([[holds(q, p) for q in houses] for p in houses])


def _search(
    domains: dict[str, int],
    groups: Sequence[Sequence[str]],
    arcs: Sequence[tuple[str, str, tuple[int, ...]]],
    found: list[dict[str, int]],
    most: int,
) -> None:
    if not _propagate(domains, groups, arcs):
        return
    open_values = [value for value, domain in domains.items() if domain & (domain - 1)]
    if not open_values:
        found.append({value: domain.bit_length() for value, domain in domains.items()})
        return
    value = min(open_values, key=lambda value: domains[value].bit_count())
    left = domains[value]
    while left and len(found) < most:
        house = left & -left
        left ^= house
        _search({**domains, value: house}, groups, arcs, found, most)


def _propagate(
    domains: dict[str, int], groups: Sequence[Sequence[str]], arcs: Sequence[tuple[str, str, tuple[int, ...]]]
) -> bool:
    """Strike houses that cannot be until nothing changes; False when some value is left without any."""
    changed = True
    while changed:
        changed = False
        for one, other, support in arcs:
            domain = domains[one] & support[domains[other]]
            if domain != domains[one]:
                if not domain:
                    return False
                domains[one], changed = domain, True
        for values in groups:
            taken, seen, twice = 0, 0, 0
            for value in values:
                domain = domains[value]
                twice |= seen & domain
                seen |= domain
                if not domain & (domain - 1):
                    if taken & domain:
                        return False
                    taken |= domain
            if seen != (1 << len(values)) - 1:
                return False
            for value in values:
                domain = domains[value]
                if domain & (domain - 1):
                    domain = domain & ~taken
                    domain = (domain & ~twice) or domain
                    if not domain:
                        return False
                    if domain != domains[value]:
                        domains[value], changed = domain, True
    return True


# ---------------------------------------------------------------------------------------------
# Reading the answer
# ---------------------------------------------------------------------------------------------

_SEPARATORS = re.compile(r"[\s:;,.|()\[\]{}\"'*_>=–—→•-]+")


def read_rows(text: str, payload: Mapping[str, Any]) -> dict[int, frozenset[str]] | None:
    """The values of each house, however they are laid out, as long as house by house; None for any other text."""
    if len(text) > _MOST_CHARACTERS:
        return None
    values: list[list[str]] = payload["values"]
    skipped = {"house", "name", *payload["kinds"]}
    # Some letters that are not ASCII become ASCII when made small.
    said = [word.lower() if word.isascii() else word for word in _SEPARATORS.split(text)]
    words = [word for word in said if word and word not in skipped]
    known = {value.lower(): value for group in values for value in group}
    width = len(values) + 1
    rows: dict[int, frozenset[str]] = {}
    for start in range(0, len(words), width):
        row = words[start : start + width]
        houses = [word for word in row if re.fullmatch("[1-9]", word)]
        things = frozenset(known[word] for word in row if word in known)
        if len(houses) != 1 or len(things) != len(values) or len(row) != width or int(houses[0]) in rows:
            return None
        rows[int(houses[0])] = things
    return rows if len(rows) == len(values[0]) else None


def _judge(text: str, payload: Mapping[str, Any]) -> bool | None:
    rows = read_rows(text, payload)
    return None if rows is None else rows == read_rows(payload["answer"], payload)


def _guess(payload: Mapping[str, Any], rng: random.Random) -> str:
    columns = [rng.sample(values, len(values)) for values in payload["values"]]
    return "\n".join(f"{house}: {', '.join(row)}" for house, row in enumerate(zip(*columns, strict=True), start=1))


KIND = Kind(_draw, _judge, _guess)
