"""Problems about text."""

from __future__ import annotations

from itertools import groupby

from openk2.gym.code.problem import Kind
from openk2.gym.code.topics import draw


def _shortened(text: str, k: int, m: int) -> str:
    runs = ["".join(run) for _, run in groupby(text)]
    return "".join(run if len(run) < k else f"{run[0]}{len(run)}" for run in runs)


def _commonest(text: str, k: int, m: int) -> str:
    parts = [text[place : place + k] for place in range(len(text) - k + 1)]
    return min(parts, key=lambda part: (-parts.count(part), part)) if parts else ""


def _longest_varied(text: str, k: int, m: int) -> int:
    spans = [(a, b) for a in range(len(text)) for b in range(a + 1, len(text) + 1)]
    return max((b - a for a, b in spans if len(set(text[a:b])) <= k), default=0)


KINDS = (
    Kind(
        "count_runs", 1, (("text", "str"),), "int",
        "A run is a stretch of one character repeated, as long as it can be. Count the runs of at least {k} characters in text.",
        """
def count_runs(text):
    count = length = 0
    for place, letter in enumerate(text):
        length = length + 1 if place and text[place - 1] == letter else 1
        count += length == K
    return count
""",
        lambda text, k, m: sum(len(list(run)) >= k for _, run in groupby(text)), draw.text, (1, 2, 3, 4),
    ),
    Kind(
        "backward_steps", 1, (("text", "str"),), "str",
        "Read text from its end backward and keep every {k}th character, the first one read among those left out unless it is the {k}th; "
        "then write the last {m} of the kept ones first.",
        """
def backward_steps(text):
    kept = text[::-1][K - 1 :: K]
    return kept[-M:] + kept[:-M]
""",
        lambda text, k, m: "".join((kept := [c for i, c in enumerate(reversed(text), 1) if i % k == 0])[max(len(kept) - m, 0) :] + kept[: max(len(kept) - m, 0)]),
        draw.text, (1, 2, 3), (1, 2, 3),
    ),
    Kind(
        "shorten", 2, (("text", "str"),), "str",
        "Replace each longest run of one character that is at least {k} long by the character followed by the run's length; leave shorter runs "
        "as they are.",
        """
def shorten(text):
    parts, start = [], 0
    for place in range(1, len(text) + 1):
        if place == len(text) or text[place] != text[start]:
            length = place - start
            parts.append(text[start] + str(length) if length >= K else text[start:place])
            start = place
    return "".join(parts)
""",
        _shortened, draw.text, (2, 3, 4, 5),
    ),
    Kind(
        "commonest_part", 2, (("text", "str"),), "str",
        "Find the substring of length {k} that occurs most often in text (occurrences may overlap). Of several, take the first in alphabetical "
        "order. If text has fewer than {k} characters, the result is the empty text.",
        """
def commonest_part(text):
    counts = {}
    for place in range(len(text) - K + 1):
        part = text[place : place + K]
        counts[part] = counts.get(part, 0) + 1
    return min(counts, key=lambda part: (-counts[part], part), default="")
""",
        _commonest, draw.text, (1, 2, 3, 4),
    ),
    Kind(
        "longest_varied", 3, (("text", "str"),), "int",
        "Find the length of the longest substring of text that has at most {k} different characters.",
        """
def longest_varied(text):
    best = start = 0
    counts = {}
    for place, letter in enumerate(text):
        counts[letter] = counts.get(letter, 0) + 1
        while len(counts) > K:
            first = text[start]
            counts[first] -= 1
            if not counts[first]:
                del counts[first]
            start += 1
        best = max(best, place - start + 1)
    return best
""",
        _longest_varied, draw.text, (1, 2, 3, 4), large=4000, slow_to=60,
    ),
    Kind(
        "distinct_parts", 3, (("text", "str"),), "int",
        "Count the different substrings of text that have at least {k} and at most {m} characters.",
        """
def distinct_parts(text):
    return len({text[a:b] for a in range(len(text)) for b in range(a + K, min(a + M, len(text)) + 1)})
""",
        lambda text, k, m: len({text[a : a + n] for n in range(k, m + 1) for a in range(len(text)) if a + n <= len(text)}),
        draw.text, (1, 2, 3), (3, 4, 5), large=2000,
    ),
)  # fmt: skip
