"""Problems about spans [start, end] of the number line."""

from __future__ import annotations

from itertools import combinations, pairwise

from openk2.gym.code.problem import Kind
from openk2.gym.code.topics import draw

_SPANS = "Each row [start, end] of spans, in no order, covers the points from start up to end, end not included. "
Rows = list[list[int]]


def _cells(spans: Rows) -> set[int]:
    return {point for start, end in spans for point in range(start, end)}


def _merged(spans: Rows, k: int, m: int) -> Rows:
    rows = sorted(spans)
    for one, other in combinations(range(len(rows)), 2):
        (a, b), (c, d) = rows[one], rows[other]
        if a - d <= k and c - b <= k:
            joined = [row for place, row in enumerate(rows) if place not in (one, other)]
            return _merged([*joined, [min(a, c), max(b, d)]], k, m)
    return rows


def _most_apart(spans: Rows, k: int, m: int) -> int:
    for count in range(len(spans), 0, -1):
        for chosen in combinations(sorted(spans), count):
            if all(y[0] - x[1] >= k for x, y in pairwise(chosen)):
                return count
    return 0


def _free(spans: Rows, k: int, m: int) -> Rows:
    free = [point for point in range(k) if point not in _cells(spans)]
    starts = [point for point in free if point - 1 not in free]
    ends = [point + 1 for point in free if point + 1 not in free]
    return [[a, b] for a, b in zip(starts, ends, strict=True) if b - a >= m]


KINDS = (
    Kind(
        "covered", 1, (("spans", "rows"),), "int",
        _SPANS + "Leave out the spans shorter than {k}; how many whole numbers do the others cover, each counted once?",
        """
def covered(spans):
    return len({point for start, end in spans if end - start >= K for point in range(start, end)})
""",
        lambda spans, k, m: sum(any(a <= p < b for a, b in spans if b - a >= k) for p in range(200)), draw.intervals, (1, 2, 3, 4, 5, 6),
    ),
    Kind(
        "hits", 1, (("spans", "rows"),), "ints",
        _SPANS + "Give the lengths of the spans that cover the point {k}, from the longest to the shortest.",
        """
def hits(spans):
    return sorted((end - start for start, end in spans if start <= K < end), reverse=True)
""",
        lambda spans, k, m: [n for n in range(50, 0, -1) for a, b in spans if b - a == n and k in range(a, b)], draw.intervals, (3, 4, 5, 6, 7, 8, 9),
    ),
    Kind(
        "merged", 2, (("spans", "rows"),), "rows",
        _SPANS + "Join spans that overlap, touch, or have a gap of at most {k} between them, until nothing more can be joined. Give what is left, "
        "sorted by start.",
        """
def merged(spans):
    found = []
    for start, end in sorted(spans):
        if found and start - found[-1][1] <= K:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return found
""",
        _merged, draw.intervals, (0, 1, 2, 3, 4), large=25,
    ),
    Kind(
        "most_at_once", 2, (("spans", "rows"),), "int",
        _SPANS + "Leave out the spans shorter than {k}. What is the largest number of the others that cover one point together?",
        """
def most_at_once(spans):
    kept = [(a, b) for a, b in spans if b - a >= K]
    return max((sum(a <= p < b for a, b in kept) for p, _ in kept), default=0)
""",
        lambda spans, k, m: max(sum(b - a >= k and a <= p < b for a, b in spans) for p in range(200)), draw.intervals, (1, 2, 3, 4, 5),
    ),
    Kind(
        "most_apart", 3, (("spans", "rows"),), "int",
        _SPANS + "Choose as many spans as you can so that between one and the next there is a gap of at least {k} (0: they may touch). How many?",
        """
def most_apart(spans):
    count, free = 0, -10**9
    for start, end in sorted(spans, key=lambda span: span[1]):
        if start - free >= K:
            count, free = count + 1, end
    return count
""",
        _most_apart, draw.intervals, (0, 1, 2, 3, 4, 5), large=2000, slow_to=9,
    ),
    Kind(
        "free_places", 3, (("spans", "rows"),), "rows",
        _SPANS + "Within the points from 0 up to {k}, {k} not included, give the stretches that no span covers as rows [start, end] in order, without those "
        "shorter than {m}.",
        """
def free_places(spans):
    found, at = [], 0
    for start, end in sorted(spans) + [[K, K]]:
        stop = min(start, K)
        if stop - at >= M:
            found.append([at, stop])
        at = max(at, end)
    return found
""",
        _free, draw.intervals, (20, 30, 50), (1, 2, 3, 4),
    ),
)  # fmt: skip
