"""Problems about lists of numbers."""

from __future__ import annotations

from itertools import combinations, pairwise

from openk2.gym.code.problem import Kind
from openk2.gym.code.topics import draw


def _longest_climb(items: list[int], k: int, m: int) -> int:
    spans = [items[a:b] for a in range(len(items)) for b in range(a + 1, len(items) + 1)]
    climbs = [span for span in spans if all(0 < y - x <= k for x, y in pairwise(span))]
    return max(map(len, climbs), default=0)


def _ranked(items: list[int], k: int, m: int) -> list[int]:
    return sorted(set(items), key=lambda item: (item % k, -item))


KINDS = (
    Kind(
        "split_sum", 1, (("items", "ints"),), "int",
        "Add up the items that are multiples of {k} and subtract each of the other items that is greater than {m}.",
        """
def split_sum(items):
    return sum(x if x % K == 0 else -x * (x > M) for x in items)
""",
        lambda items, k, m: sum(x for x in items if x % k == 0) - sum(x for x in items if x % k and x > m),
        draw.ints, (2, 3, 4, 5), (0, 2, 5),
    ),
    Kind(
        "turned", 1, (("items", "ints"),), "ints",
        "Leave out the items below {m}, then move the first {k} of those left to the end, one after the other (so that an item may move "
        "more than once when there are few).",
        """
def turned(items):
    kept = [x for x in items if x >= M]
    cut = K % len(kept) if kept else 0
    return kept[cut:] + kept[:cut]
""",
        lambda items, k, m: [kept[(i + k) % len(kept)] for kept in [[x for x in items if not x < m]] for i in range(len(kept))],
        draw.ints, (1, 2, 3, 5), (-2, 0, 2),
    ),
    Kind(
        "ranked", 2, (("items", "ints"),), "ints",
        "Return the different values among the items, sorted by their remainder when divided by {k} (from 0 up; of a negative number too, "
        "as Python's % has it), and those of equal remainder from the largest to the smallest.",
        """
def ranked(items):
    found = sorted(set(items), reverse=True)
    found.sort(key=lambda x: x % K)
    return found
""",
        _ranked, draw.ints, (2, 3, 4, 5, 6, 7),
    ),
    Kind(
        "longest_climb", 2, (("items", "ints"),), "int",
        "Find the length of the longest stretch of neighbouring items in which each is greater than the one before, but by no more than {k}. "
        "A single item is such a stretch; an empty list has none, so 0.",
        """
def longest_climb(items):
    best = length = 0
    for place, x in enumerate(items):
        length = length + 1 if place and 0 < x - items[place - 1] <= K else 1
        best = max(best, length)
    return best
""",
        _longest_climb, draw.ints, (1, 2, 4, 8, 20),
    ),
    Kind(
        "matching_pairs", 3, (("items", "ints"),), "int",
        "Count the pairs of places i < j for which items[i] + items[j] is a multiple of {k} and items[i] is not equal to items[j]. "
        "There may be many thousand items.",
        """
def matching_pairs(items):
    remainders, values, count = {}, {}, 0
    for x in items:
        count += remainders.get(-x % K, 0)
        if 2 * x % K == 0:
            count -= values.get(x, 0)
        remainders[x % K] = remainders.get(x % K, 0) + 1
        values[x] = values.get(x, 0) + 1
    return count
""",
        lambda items, k, m: sum((a + b) % k == 0 and a != b for a, b in combinations(items, 2)),
        draw.ints, (2, 3, 4, 5, 7), large=20_000, slow_to=50,
    ),
    Kind(
        "window_spans", 3, (("items", "ints"),), "ints",
        "For each window of {k} neighbouring items, from the left, give its largest item less its smallest. With fewer than {k} items "
        "the result is empty.",
        """
def window_spans(items):
    return [max(items[i : i + K]) - min(items[i : i + K]) for i in range(len(items) - K + 1)]
""",
        lambda items, k, m: [sorted(w)[-1] - sorted(w)[0] for w in (items[i : i + k] for i in range(len(items))) if len(w) == k],
        draw.ints, (2, 3, 4), large=400,
    ),
    Kind(
        "divisible_stretches", 3, (("items", "ints"),), "int",
        "Count the non-empty stretches of neighbouring items whose sum is a multiple of {k} (0 is one). There may be many thousand items.",
        """
def divisible_stretches(items):
    seen, total, count = {0: 1}, 0, 0
    for x in items:
        total = (total + x) % K
        count += seen.get(total, 0)
        seen[total] = seen.get(total, 0) + 1
    return count
""",
        lambda items, k, m: sum(sum(items[a:b]) % k == 0 for a in range(len(items)) for b in range(a + 1, len(items) + 1)),
        draw.ints, (2, 3, 4, 5, 6, 7), large=20_000, slow_to=50,
    ),
)  # fmt: skip
