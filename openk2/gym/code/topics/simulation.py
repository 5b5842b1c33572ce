"""Problems that play something through."""

from __future__ import annotations

from functools import reduce
from random import Random
from typing import Any

from openk2.gym.code.problem import Kind


def _moves(rng: Random, size: int) -> list[Any]:
    return ["".join(rng.choices("LRUD", k=3 * size))]


def _ups(rng: Random, size: int) -> list[Any]:
    return ["".join(rng.choices("ud", weights=(rng.randint(1, 3), 1), k=3 * size))]


def _orders(rng: Random, size: int) -> list[Any]:
    words, depth = [], 0
    for _ in range(2 * size):
        choice = rng.choice(
            ["push", *(["dup", "neg"] if depth else []), *(["add", "sub", "swap"] if depth > 1 else [])]
        )
        words.append(str(rng.randint(0, 9)) if choice == "push" else choice)
        depth += {"push": 1, "dup": 1, "add": -1, "sub": -1}.get(choice, 0)
    return [words]


def _stack(words: list[str], k: int, m: int) -> list[int]:
    stack: list[int] = []
    for word in words:
        match stack, word:
            case [*rest, a], "dup":
                stack = [*rest, a, a]
            case [*rest, a], "neg":
                stack = [*rest, -a]
            case [*rest, a, b], "add":
                stack = [*rest, a + b]
            case [*rest, a, b], "sub":
                stack = [*rest, a - b]
            case [*rest, a, b], "swap":
                stack = [*rest, b, a]
            case _:
                stack = [*stack, int(word) * k]
    return stack


def _robot(text: str, k: int, m: int) -> list[int]:
    return [(text.count("R") - text.count("L")) % k, (text.count("U") - text.count("D")) % m]


def _circle(n: int, k: int, m: int) -> list[int]:
    people, order = list(range(1, n + 1)), []
    while people:
        people = people[(k - 1) % len(people) :] + people[: (k - 1) % len(people)]
        order.append(people.pop(0))
    return order


def _turns(times: list[int], k: int, m: int) -> list[int]:
    """Looks only at who still has work in each round."""
    clock, done = 0, [0] * len(times)
    for round_ in range(sum(times) + 1):
        for place, need in enumerate(times):
            left = need - round_ * k
            if left > 0:
                clock += min(left, k) + m
                done[place] = clock
    return done


def _cells(text: str, k: int, m: int) -> str:
    for _ in range(m):
        text = "".join(
            str(k >> int(text[i - 1] + text[i] + text[(i + 1) % len(text)], 2) & 1) for i in range(len(text))
        )
    return text


KINDS = (
    Kind(
        "robot", 1, (("text", "str"),), "ints",
        "A robot begins at x = 0, y = 0 and obeys the letters of text: R and L change x by +1 and -1, U and D change y by +1 and -1. The field is {k} wide (x from 0) "
        "and {m} high (y from 0); who leaves it on one side comes in on the other. Give the last x and y.",
        """
def robot(text):
    x = y = 0
    for letter in text:
        if letter in "LR":
            x = (x + (1 if letter == "R" else -1)) % K
        else:
            y = (y + (1 if letter == "U" else -1)) % M
    return [x, y]
""",
        _robot, _moves, (3, 4, 5, 6, 7), (3, 4, 5, 8),
    ),
    Kind(
        "bounded_counter", 1, (("text", "str"),), "int",
        "A counter begins at {m}. For each u in text it goes up by 1, for each d down by 1, but never above {k} and never below 0: then it stays. "
        "Give its last value plus ten times the number of letters at which it stayed.",
        """
def bounded_counter(text):
    value, stayed = M, 0
    for letter in text:
        new = min(max(value + (1 if letter == "u" else -1), 0), K)
        stayed += new == value
        value = new
    return value + 10 * stayed
""",
        lambda text, k, m: (lambda end: end[0] + 10 * end[1])(reduce(lambda s, c: (s[0] + 1, s[1]) if c == "u" and s[0] < k else (s[0] - 1, s[1]) if c == "d" and s[0] > 0 else (s[0], s[1] + 1), text, (m, 0))),
        _ups, (3, 4, 5, 6), (0, 1, 2, 3),
    ),
    Kind(
        "circle", 2, (("n", "int"),), "ints",
        "People 1 to n stand in a circle. Counting begins at person 1, goes round those still standing, and each {k}th one counted leaves; the next "
        "count begins with whoever follows. Give the order in which they leave. For n = 0 it is empty.",
        """
def circle(n):
    people, order, place = list(range(1, n + 1)), [], 0
    while people:
        place = (place + K - 1) % len(people)
        order.append(people.pop(place))
    return order
""",
        _circle, lambda rng, size: [min(2 * size, 30) + (rng.randint(0, 3) if size else 0)], (2, 3, 4, 5, 6, 7),
    ),
    Kind(
        "stack_machine", 2, (("words", "words"),), "ints",
        "A machine has a stack and obeys words: a number is multiplied by {k} and put on top; dup puts the top on once more; neg changes the sign of "
        "the top; add and sub take the top two off and put on their sum, or the lower less the upper; swap exchanges the top two. Give the stack at the end, "
        "the bottom first. No word ever lacks what it needs.",
        """
def stack_machine(words):
    stack = []
    for word in words:
        if word == "dup":
            stack.append(stack[-1])
        elif word == "neg":
            stack.append(-stack.pop())
        elif word in ("add", "sub", "swap"):
            upper, lower = stack.pop(), stack.pop()
            stack += {"add": [lower + upper], "sub": [lower - upper], "swap": [upper, lower]}[word]
        else:
            stack.append(int(word) * K)
    return stack
""",
        _stack, _orders, (1, 2, 3, 4, 5, 6, 7),
    ),
    Kind(
        "cells", 3, (("text", "str"),), "str",
        "text is a ring of cells, 0 or 1. In a step each cell is replaced at the same time: read its left neighbour, itself and its right neighbour as a "
        "binary number of three digits, and take the bit of {k} of that place (bit 0 is the lowest). Give the ring after {m} steps. A ring of one cell "
        "is its own neighbour; an empty one stays empty.",
        """
def cells(text):
    row = [int(mark) for mark in text]
    size = len(row)
    for _ in range(M):
        row = [K >> (4 * row[i - 1] + 2 * row[i] + row[(i + 1) % size]) & 1 for i in range(size)]
    return "".join(map(str, row))
""",
        _cells, lambda rng, size: ["".join(rng.choices("01", k=2 * size))], (30, 45, 54, 73, 90, 105, 110, 150), (1, 2, 3, 5),
    ),
    Kind(
        "taking_turns", 3, (("times", "ints"),), "ints",
        "Jobs need the given times, all at least 1. One processor serves them in a queue, in their order: a job runs for at most {k}, and goes to the queue's "
        "end if it needs more. Each turn costs {m} on top, at its end. Give for each job the time at which its last turn is over, its costs included.",
        """
def taking_turns(times):
    from collections import deque
    queue, clock, done = deque(enumerate(times)), 0, [0] * len(times)
    while queue:
        place, left = queue.popleft()
        clock += min(left, K) + M
        if left > K:
            queue.append((place, left - K))
        else:
            done[place] = clock
    return done
""",
        _turns, lambda rng, size: [[rng.randint(1, 25) for _ in range(size)]], (2, 3, 4, 5, 8), (0, 1, 2), large=20,
    ),
)  # fmt: skip
