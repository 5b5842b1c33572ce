"""Questions about a chain of tables, each in words and in SQL; SQLite says what is right."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from openk2.gym.tables.data import Cell, Chain, Table

_FUNCTIONS = {"total": "SUM", "mean": "AVG", "largest": "MAX", "smallest": "MIN"}
_FEWEST = 4  # rows that make an aggregate
_ORDER = {"largest": "DESC", "smallest": "ASC"}


@dataclass(frozen=True, slots=True)
class Query:
    """A question: its words, its SQL, and what its answer is.

    The SQL gives the answer in the first column. A ranking gives a row for each candidate, best first, with what it is
    ranked by in the second column. ``careless`` is the SQL without one of its filters, for each. ``noun`` is what a name
    names, None for a number; ``decimals`` are those of a number; ``among`` is the column that holds the answer, where one does.
    """

    text: str
    sql: str
    ranking: bool
    careless: tuple[str, ...] = ()
    noun: str | None = None
    decimals: int = 0
    among: tuple[Cell, ...] = ()


def answer_of(query: Query, database: sqlite3.Connection) -> str | None:
    """What SQLite answers; None where that is not one answer, or who overlooks a filter finds it, too.

    Not one answer: no rows, a tie, a mean halfway between two roundings.
    """
    rows = database.execute(query.sql).fetchall()
    if not rows or any(database.execute(sql).fetchone()[0] == rows[0][0] for sql in query.careless):
        return None
    if query.ranking:
        return None if len(rows) < 3 or rows[0][1] == rows[1][1] else str(rows[0][0])
    if not query.decimals:
        return str(rows[0][0])
    mean, total, count = rows[0]
    halfway = (Fraction(total, count) * 10**query.decimals).denominator == 2
    return None if halfway else f"{mean:.{query.decimals}f}"


def database_of(chain: Chain) -> sqlite3.Connection:
    """The tables in memory; the caller closes it."""
    database = sqlite3.connect(":memory:")
    for table in (*chain.tables, *chain.aside):
        database.execute(f'CREATE TABLE "{table.noun.many}" ({", ".join(map(_quoted, table.columns))})')
        places = ", ".join("?" * len(table.columns))
        database.executemany(f'INSERT INTO "{table.noun.many}" VALUES ({places})', table.rows)
    return database


def _quoted(name: str) -> str:
    return f'"{name}"'


# ---------------------------------------------------------------------------------------------
# Parts of a question: columns, filters, the join of the whole chain
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on a table of the chain, in words and in SQL."""

    table: Table
    text: str
    sql: str


def _cell(table: Table, column: str) -> str:
    return f'"{table.noun.many}"."{column}"'


def _from(chain: Chain, conditions: Sequence[str]) -> str:
    """The rows at the bottom, each with all it belongs to, where the conditions hold."""
    *_, lowest = chain.tables
    joins = "".join(
        f' JOIN "{above.noun.many}" ON {_cell(below, above.noun.one)} = {_cell(above, chain.key)}'
        for above, below in zip(chain.tables[-2::-1], chain.tables[:0:-1], strict=True)
    )
    where = " WHERE " + " AND ".join(conditions) if conditions else ""
    return f'FROM "{lowest.noun.many}"{joins}{where}'


def _filter(rng: random.Random, table: Table) -> Filter:
    """A word that a row has, or a number it is above or below."""
    if rng.random() < 0.6:
        column, words = rng.choice(list(table.noun.words.items()))
        word = rng.choice(words)
        return Filter(table, f"{column} is {word}", f"{_cell(table, column)} = '{word}'")
    column = rng.choice(list(table.noun.numbers))
    cells = sorted(number for number in table.column(column) if isinstance(number, int))
    bound = cells[rng.randint(len(cells) // 4, 3 * len(cells) // 4)]
    word, sign = rng.choice((("above", ">"), ("below", "<")))
    return Filter(table, f"{column} is {word} {bound}", f"{_cell(table, column)} {sign} {bound}")


def _filters(rng: random.Random, tables: Sequence[Table], count: int) -> list[Filter]:
    """Filters on so many different tables, lowest first."""
    chosen = rng.sample(range(len(tables)), count)
    return [_filter(rng, tables[place]) for place in sorted(chosen, reverse=True)]


def _asked(select: str, chain: Chain, filters: Sequence[Filter], then: str) -> tuple[str, tuple[str, ...]]:
    """The SQL with all filters, and without each of them in turn."""
    conditions = [one.sql for one in filters]
    fewer = [conditions[:place] + conditions[place + 1 :] for place in range(len(conditions))]
    asked, *careless = (f"SELECT {select} {_from(chain, some)} {then}" for some in (conditions, *fewer))
    return asked, tuple(careless)


def _those(lowest: Table, filters: Sequence[Filter]) -> str:
    """The rows at the bottom that filters let through, in words."""
    conditions = [
        f"whose {one.text}" if one.table is lowest else f"that belong to a {one.table.noun.one} whose {one.text}"
        for one in filters
    ]
    return " ".join([lowest.noun.many, " and ".join(conditions)]).strip()


def _number(rng: random.Random, table: Table) -> str:
    return rng.choice(list(table.noun.numbers))


# ---------------------------------------------------------------------------------------------
# Multi-hop: from one row to another
# ---------------------------------------------------------------------------------------------


def owner_of_extreme(rng: random.Random, chain: Chain, num_filters: int) -> Query:
    """To what at the top the lowest row with the largest or smallest number belongs."""
    top, *_, lowest = chain.tables
    filters = _filters(rng, chain.tables[1:], min(num_filters, len(chain.tables) - 1))
    column, extreme = _number(rng, lowest), rng.choice(list(_ORDER))
    text = (
        f"Among the {_those(lowest, filters)}, take the one with the {extreme} {column}. "
        f"Which {top.noun.one} does it belong to?"
    )
    by = _cell(lowest, column)
    sql, careless = _asked(f"{_cell(top, 'name')}, {by}", chain, filters, f"ORDER BY {by} {_ORDER[extreme]}")
    return Query(text, sql, True, careless, noun=top.noun.one, among=tuple(top.column("name")))


def lookup(rng: random.Random, chain: Chain, num_filters: int) -> Query:
    """A number of what a named row belongs to, at the top."""
    top, *_, lowest = chain.tables
    name, column = rng.choice(lowest.column("name")), _number(rng, top)
    text = f"What is the {column} of the {top.noun.one} that the {lowest.noun.one} {name} belongs to?"
    named = f"{_cell(lowest, 'name')} = '{name}'"
    sql = f"SELECT {_cell(top, column)} {_from(chain, [named])}"
    return Query(text, sql, False, among=tuple(top.column(column)))


def extreme_below_extreme(rng: random.Random, chain: Chain, num_filters: int) -> Query:
    """The lowest row with the largest or smallest number, of those that belong to the extreme one at the top."""
    top, *_, lowest = chain.tables
    above, column = _number(rng, top), _number(rng, lowest)
    first, second = rng.choice(list(_ORDER)), rng.choice(list(_ORDER))
    text = (
        f"Take the {top.noun.one} with the {first} {above}. Among the {lowest.noun.many} that belong to it, "
        f"which has the {second} {column}?"
    )
    # No two numbers at the top are the same, so that the limit takes the only one.
    taken = f'(SELECT "name" FROM "{top.noun.many}" ORDER BY "{above}" {_ORDER[first]} LIMIT 1)'
    belongs = f"{_cell(top, 'name')} = {taken}"
    by = _cell(lowest, column)
    sql = f"SELECT {_cell(lowest, 'name')}, {by} {_from(chain, [belongs])} ORDER BY {by} {_ORDER[second]}"
    return Query(text, sql, True, noun=lowest.noun.one, among=tuple(lowest.column("name")))


# ---------------------------------------------------------------------------------------------
# Aggregation: many rows become one number
# ---------------------------------------------------------------------------------------------


def aggregate(rng: random.Random, chain: Chain, num_filters: int) -> Query:
    """A total, mean, extreme or count over the rows that filters let through, one of them at the top."""
    top, *_, lowest = chain.tables
    others = _filters(rng, chain.tables[1:], min(max(num_filters - 1, 0), len(chain.tables) - 1))
    filters = [*others, _filter(rng, top)]
    those, function = _those(lowest, filters), rng.choice((*_FUNCTIONS, "count"))
    enough = f"HAVING COUNT(*) >= {_FEWEST}"
    if function == "count":
        sql, careless = _asked("COUNT(*)", chain, filters, enough)
        return Query(f"How many {those} are there?", sql, False, careless)
    column = _number(rng, lowest)
    cell = _cell(lowest, column)
    text = f"What is the {function} {column} of the {those}?"
    if function == "mean":
        sql, careless = _asked(f"AVG({cell}), SUM({cell}), COUNT(*)", chain, filters, enough)
        return Query(f"{text} Round it to two decimals.", sql, False, careless, decimals=2)
    sql, careless = _asked(f"{_FUNCTIONS[function]}({cell})", chain, filters, enough)
    return Query(text, sql, False, careless, among=tuple(lowest.column(column)) if function in _ORDER else ())


def extreme_group(rng: random.Random, chain: Chain, num_filters: int) -> Query:
    """What at the top has the largest or smallest total, mean or number of the rows that belong to it."""
    top, *_, lowest = chain.tables
    filters = _filters(rng, chain.tables[1:], min(num_filters, len(chain.tables) - 1))
    those, function = _those(lowest, filters), rng.choice(("total", "mean", "count"))
    # With a filter, something may have no rows at all: is nothing its total? The question does not arise for the largest.
    extreme = "largest" if filters else rng.choice(list(_ORDER))
    column = _number(rng, lowest)
    if function == "count":
        by, what = "COUNT(*)", "number"
    else:
        by, what = f"{_FUNCTIONS[function]}({_cell(lowest, column)})", f"{function} {column}"
    text = f"Look at the {those}. For which {top.noun.one} is the {what} of those that belong to it the {extreme}?"
    group = f"GROUP BY {_cell(top, 'name')} ORDER BY {by} {_ORDER[extreme]}"
    sql, careless = _asked(f"{_cell(top, 'name')}, {by}", chain, filters, group)
    return Query(text, sql, True, careless, noun=top.noun.one, among=tuple(top.column("name")))


Form = Callable[[random.Random, Chain, int], Query]
"""Draws a question about a chain with so many filters, where the form has room for them."""

FORMS: Mapping[str, tuple[Form, ...]] = {
    "multi_hop": (owner_of_extreme, extreme_below_extreme, lookup),
    "aggregation": (aggregate, extreme_group),
}
"""How the questions of each kind are made."""
