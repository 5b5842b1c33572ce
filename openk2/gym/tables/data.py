"""Invented tables that refer to each other: a chain of things, each of which belongs to one of the things above it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from openk2.gym.names import invented_names

Cell = str | int


@dataclass(frozen=True, slots=True)
class Noun:
    """What the rows of a table are. ``numbers`` gives the lowest and highest cell of a column, ``words`` its choices."""

    one: str
    many: str
    numbers: Mapping[str, tuple[int, int]]
    words: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one noun; ``link`` is the column that says what a row belongs to, and None at the top of the chain."""

    noun: Noun
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    link: str | None

    def column(self, name: str) -> list[Cell]:
        """The cells of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


@dataclass(frozen=True, slots=True)
class Chain:
    """Tables from the top down; ``key`` is the column by which rows are referred to: "id" or "name"."""

    tables: tuple[Table, ...]
    aside: tuple[Table, ...]  # tables that no question is about
    key: str


_CHAINS = (
    (
        Noun("valley", "valleys", {"rainfall": (400, 1900), "height": (20, 900)}, {"soil": ("clay", "sand", "loam")}),
        Noun("farm", "farms", {"herd": (5, 400), "rent": (100, 990)}, {"fence": ("stone", "wood", "wire")}),
        Noun("field", "fields", {"area": (2, 99), "slope": (1, 40)}, {"crop": ("barley", "oats", "beans", "flax")}),
        Noun("harvest", "harvests", {"weight": (20, 950), "duration": (1, 30)}, {"season": ("spring", "summer", "autumn")}),
    ),
    (
        Noun("port", "ports", {"depth": (5, 80), "tonnage": (10, 600)}, {"coast": ("north", "south", "west")}),
        Noun("ship", "ships", {"crew": (8, 120), "length": (30, 350)}, {"hull": ("steel", "oak", "iron")}),
        Noun("voyage", "voyages", {"distance": (90, 4000), "fare": (20, 700)}, {"weather": ("calm", "rough", "foggy")}),
        Noun("crate", "crates", {"weight": (3, 400), "value": (10, 990)}, {"colour": ("red", "blue", "green", "black")}),
    ),
    (
        Noun("district", "districts", {"area": (9, 300), "density": (1, 60)}, {"side": ("left", "right", "middle")}),
        Noun("school", "schools", {"budget": (20, 400), "age": (1, 90)}, {"roof": ("tiles", "slate", "grass")}),
        Noun("course", "courses", {"length": (5, 90), "fee": (10, 400)}, {"subject": ("maths", "music", "history", "art")}),
        Noun("pupil", "pupils", {"score": (10, 100), "height": (90, 190)}, {"club": ("chess", "choir", "judo")}),
    ),
    (
        Noun("guild", "guilds", {"dues": (10, 300), "size": (20, 900)}, {"banner": ("red", "white", "gold")}),
        Noun("workshop", "workshops", {"rent": (50, 900), "stock": (2, 60)}, {"street": ("mill", "bridge", "church")}),
        Noun("master", "masters", {"wage": (30, 500), "age": (18, 90)}, {"craft": ("smith", "potter", "weaver", "tanner")}),
        Noun("order", "orders", {"price": (15, 990), "weight": (1, 80)}, {"state": ("open", "paid", "sent")}),
    ),
    (
        Noun("star", "stars", {"brightness": (10, 900), "distance": (10, 700)}, {"light": ("yellow", "white", "red")}),
        Noun("planet", "planets", {"radius": (200, 9000), "gravity": (10, 90)}, {"air": ("thin", "dense", "none")}),
        Noun("station", "stations", {"crew": (2, 90), "volume": (10, 400)}, {"shape": ("ring", "dome", "tower")}),
        Noun("probe", "probes", {"mass": (40, 900), "range": (10, 700)}, {"engine": ("ion", "sail", "plasma", "steam")}),
    ),
)  # fmt: skip
_ASIDE = (
    Noun("sponsor", "sponsors", {"gift": (10, 900), "age": (20, 90)}, {"mood": ("kind", "stern", "shy")}),
    Noun("rule", "rules", {"page": (1, 400), "fine": (5, 300)}, {"kind": ("old", "new", "draft")}),
)
_NUM_ROWS = {2: (10, 20), 3: (10, 14, 26), 4: (10, 14, 20, 30)}
_NUM_ASIDE = 9


def draw_chain(rng: random.Random, num_tables: int) -> Chain:
    """Neighbours in one of the chains of nouns, with rows under invented names; with 4 tables, one more that is no part of it."""
    nouns = rng.choice(_CHAINS)
    start = rng.randint(0, len(nouns) - num_tables)
    counts = _NUM_ROWS[num_tables]
    asides = rng.sample(_ASIDE, 1) if num_tables == len(nouns) else []
    names = iter(invented_names(rng, sum(counts) + _NUM_ASIDE * len(asides)))
    # By name, the lower of two tables would say without the upper what its rows belong to.
    key = "id" if num_tables == 2 else rng.choice(("id", "name"))
    tables: list[Table] = []
    for noun, count in zip(nouns[start : start + num_tables], counts, strict=False):
        tables.append(_table(rng, noun, [next(names) for _ in range(count)], key, tables[-1] if tables else None))
    aside = tuple(_table(rng, noun, [next(names) for _ in range(_NUM_ASIDE)], key, None) for noun in asides)
    return Chain(tuple(tables), aside, key)


def _table(rng: random.Random, noun: Noun, names: list[str], key: str, above: Table | None) -> Table:
    """Every row above has at least one that belongs to it; at the top, no two rows have the same number."""
    count = len(names)
    cells: dict[str, list[Cell]] = {"name": list(names)}
    if key == "id":
        cells["id"] = [f"{noun.one[0].upper()}{number}" for number in rng.sample(range(10, 100), count)]
    if above is not None:
        keys = above.column(key)
        parents = [*keys, *rng.choices(keys, k=count - len(keys))]
        cells[above.noun.one] = rng.sample(parents, count)
    for column, (low, high) in noun.numbers.items():
        drawn = rng.sample(range(low, high + 1), count) if above is None else rng.choices(range(low, high + 1), k=count)
        cells[column] = list(drawn)
    for column, words in noun.words.items():
        cells[column] = [rng.choice(words) for _ in names]
    first = [column for column in ("id", "name") if column in cells]
    columns = (*first, *rng.sample([column for column in cells if column not in first], len(cells) - len(first)))
    rows = tuple(zip(*(cells[column] for column in columns), strict=True))
    return Table(noun, columns, rows, None if above is None else above.noun.one)
