"""Problems whose plain way tries everything, and whose fast way remembers."""

from __future__ import annotations

from functools import cache
from itertools import combinations, pairwise, product
from random import Random
from typing import Any

from openk2.gym.code.problem import Kind
from openk2.gym.code.topics import draw


def _count(rng: Random, size: int) -> list[Any]:
    return [rng.randint(100, 400) if size > 12 else size + rng.randint(0, 6)]


def _climbs(n: int, k: int, m: int) -> int:
    return 1 if n == 0 else 0 if n < 0 else sum(_climbs(n - step, k, m) for step in {1, k, m})


def _fewest(n: int, k: int, m: int) -> int:
    sizes = range(n + 1)
    return min(a + b + c for b, c in product(sizes, sizes) if (a := n - b * k - c * m) >= 0)


def _best_apart(items: list[int], k: int, m: int) -> int:
    best = 0
    for count in range(1, len(items) + 1):
        for places in combinations(range(len(items)), count):
            if all(b - a >= k for a, b in pairwise(places)):
                best = max(best, sum(items[place] for place in places))
    return best


def _common(a: str, b: str, k: int, m: int) -> int:
    @cache
    def longest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        both = 1 + longest(i + 1, j + 1) if a[i] == b[j] and abs(i - j) <= k else 0
        return max(both, longest(i + 1, j), longest(i, j + 1))

    return longest(0, 0)


def _distance(a: str, b: str, k: int, m: int) -> int:
    if not a or not b:
        return m * (len(a) + len(b))
    change = 0 if a[0] == b[0] else k
    return min(_distance(a[1:], b[1:], k, m) + change, _distance(a[1:], b, k, m) + m, _distance(a, b[1:], k, m) + m)


KINDS = (
    Kind(
        "climbs", 1, (("n", "int"),), "int",
        "In how many ways can n stairs be climbed by steps of 1, {k} or {m} stairs, when the order of the steps matters? For n = 0 there is one way.",
        """
def climbs(n):
    ways = [1]
    for stair in range(1, n + 1):
        ways.append(sum(ways[stair - step] for step in {1, K, M} if step <= stair))
    return ways[n]
""",
        _climbs, lambda rng, size: [min(size, 9) + rng.randint(0, 5)], (2, 3, 4), (3, 4, 5, 6),
    ),
    Kind(
        "best_streak", 1, (("items", "ints"),), "int",
        "What is the largest sum of a stretch of at least {k} neighbouring items? 0 when there are fewer than {k} items.",
        """
def best_streak(items):
    return max((sum(items[a:b]) for a in range(len(items)) for b in range(a + K, len(items) + 1)), default=0)
""",
        lambda items, k, m: 0 if len(items) < k else max(sum(items[b - n : b]) for n in range(k, len(items) + 1) for b in range(n, len(items) + 1)),
        draw.ints, (1, 2, 3, 4, 5), large=40,
    ),
    Kind(
        "fewest_coins", 2, (("n", "int"),), "int",
        "How few coins of 1, {k} and {m} make the amount n exactly? For n = 0 none are needed.",
        """
def fewest_coins(n):
    fewest = [0]
    for amount in range(1, n + 1):
        fewest.append(1 + min(fewest[amount - coin] for coin in (1, K, M) if coin <= amount))
    return fewest[n]
""",
        _fewest, _count, (3, 4, 5, 7), (6, 8, 9, 10, 12),
    ),
    Kind(
        "best_apart", 2, (("items", "ints"),), "int",
        "Choose any of the items, none too, so that the places of any two chosen differ by at least {k}. What is the largest sum?",
        """
def best_apart(items):
    best = [0] * (len(items) + 1)
    for place, x in enumerate(items):
        best[place + 1] = max(best[place], x + best[max(place + 1 - K, 0)])
    return best[-1]
""",
        _best_apart, draw.ints, (2, 3, 4, 5), large=500, slow_to=9,
    ),
    Kind(
        "near_common", 3, (("a", "str"), ("b", "str")), "int",
        "Find the length of the longest common subsequence of a and b (characters in order, not necessarily neighbours) in which the places of each "
        "character in a and in b differ by at most {k}.",
        """
def near_common(a, b):
    row = [0] * (len(b) + 1)
    for i, x in enumerate(a):
        new = [0]
        for j, y in enumerate(b):
            new.append(max(row[j + 1], new[j], row[j] + 1 if x == y and abs(i - j) <= K else 0))
        row = new
    return row[-1]
""",
        _common, draw.two_texts, (0, 1, 2, 3), large=100,  slow_to=50,
    ),
    Kind(
        "edit_cost", 3, (("a", "str"), ("b", "str")), "int",
        "What does it cost at least to turn text a into text b, when to insert or delete a character costs {m} and to replace one by another costs {k}?",
        """
def edit_cost(a, b):
    row = [M * j for j in range(len(b) + 1)]
    for i, x in enumerate(a, 1):
        new = [M * i]
        for j, y in enumerate(b, 1):
            new.append(min(row[j] + M, new[j - 1] + M, row[j - 1] + (K if x != y else 0)))
        row = new
    return row[-1]
""",
        _distance, draw.two_texts, (1, 2, 3, 5), (1, 2, 3), large=100, slow_to=3,
    ),
)  # fmt: skip
