"""Arguments at random, of about a size; size 0 is the smallest there is."""

from __future__ import annotations

from random import Random
from typing import Any


def ints(rng: Random, size: int) -> list[Any]:
    """A list of integers; often with repeats, sometimes all alike."""
    reach = rng.choice((2, 6, 20, 99))
    low, high = rng.choice(((-reach, reach), (0, reach), (-reach, 0)))
    return [[rng.randint(low, high) for _ in range(size)]]


def text(rng: Random, size: int) -> list[Any]:
    """A text of few different letters, with runs."""
    letters = rng.choice(("ab", "abc", "abcdef"))
    found = ""
    while len(found) < 2 * size:
        found += rng.choice(letters) * rng.choice((1, 1, 1, 2, 3, 5))
    return [found[: 2 * size]]


def two_texts(rng: Random, size: int) -> list[Any]:
    """Two texts of different lengths."""
    return [*text(rng, size), *text(rng, max(size - rng.randint(0, 2), 0))]


def number(rng: Random, size: int) -> list[Any]:
    """An integer, 0 for size 0, larger with size."""
    return [rng.randint(size, 10 + 9 * size * size) if size else 0]


def intervals(rng: Random, size: int) -> list[Any]:
    """Rows [start, end], start below end, in no order; some touch, some repeat."""
    reach = rng.choice((12, 30, 90))
    rows = []
    for _ in range(size):
        start = rng.randint(0, reach)
        rows.append([start, start + rng.randint(1, rng.choice((3, 12, 25)))])
    return [rows]


def graph(rng: Random, size: int) -> list[Any]:
    """A number of nodes from 1 on, and edges [a, b] with a below b, each once."""
    nodes = size + 1
    pairs = [[a, b] for a in range(nodes) for b in range(a + 1, nodes) if b - a <= 12]
    return [nodes, rng.sample(pairs, min(len(pairs), rng.randint(0, 2 * nodes)))]


def weighted(rng: Random, size: int) -> list[Any]:
    """Edges [a, b, weight] in no order of nodes, so that a way goes along some of them backward."""
    nodes, edges = graph(rng, size)
    names = rng.sample(range(nodes), nodes)
    return [nodes, [[names[a], names[b], rng.randint(1, 20)] for a, b in edges]]
