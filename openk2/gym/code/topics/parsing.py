"""Problems about reading a notation."""

from __future__ import annotations

import re
from math import prod
from random import Random
from typing import Any

from openk2.gym.code.problem import Kind


def _sum(rng: Random, size: int) -> list[Any]:
    first = rng.choice(("", "-")) + str(rng.randint(0, 20))
    return [first + "".join(rng.choice("+-") + str(rng.randint(0, 150)) for _ in range(size))]


def _settings(rng: Random, size: int) -> list[Any]:
    names = ["a", "bc", "bca", "abcd", "ca", "b", "longer"]
    return [";".join(f"{rng.choice(names)}={rng.randint(-9, 99)}" for _ in range(size))]


def _settings_sum(text: str, k: int, m: int) -> int:
    pairs = re.findall(r"([a-z]+)=(-?[0-9]+)", text)
    last = [pair for place, pair in enumerate(pairs) if pair[0] not in [name for name, _ in pairs[place + 1 :]]]
    return sum(int(value) for name, value in last if len(name) >= k)


def _brackets(rng: Random, size: int) -> list[Any]:
    found, depth = "", 0
    for _ in range(2 * size):
        opens = depth == 0 or rng.random() < 0.55
        found += "(" if opens else ")"
        depth += 1 if opens else -1
    found += ")" * depth
    if size and rng.random() < 0.4:
        place = rng.randrange(len(found))
        found = found[:place] + rng.choice("()") + found[place + 1 :]
    return [found]


def _deep(found: str, k: int, m: int) -> bool:
    for _ in range(k):
        found = re.sub(r"\(((?:0)*)\)", "0", found)
        found = re.sub("0+", "0", found)
    return found in ("", "0")


def _formula(rng: Random, size: int) -> list[Any]:
    def draw(left: int) -> str:
        if left <= 0:
            return str(rng.randint(0, 12))
        first = rng.randint(0, left - 1)
        text = f"{draw(first)}{rng.choice('+*')}{draw(left - 1 - first)}"
        return f"({text})" if rng.random() < 0.4 else text

    return [draw(min(size, 12))]


def _swapped(text: str, k: int, m: int) -> int:
    """Innermost brackets first, by rewriting the text until no bracket is left."""
    while "(" in text:
        text = re.sub(r"\(([^()]*)\)", lambda match: str(_swapped(match[1], 10**18, 0)), text)
    return prod(sum(map(int, part.split("+"))) for part in text.split("*")) % k


def _repeats(rng: Random, size: int) -> list[Any]:
    def draw(left: int) -> str:
        if left <= 0:
            return rng.choice(("a", "b", "cd", ""))
        inner = f"{rng.randint(0, 3)}[{draw(left - 1)}]"
        return (
            rng.choice(("", "x", "yz")) + inner + (draw(left // 2 - 1) if rng.random() < 0.5 else rng.choice(("", "q")))
        )

    return [draw(min(size, 5))]


def _expanded(text: str, k: int, m: int) -> str:
    while "[" in text:
        text = re.sub(r"(\d)\[([a-z]*)\]", lambda match: match[2] * int(match[1]), text)
    return text[m : m + k]


KINDS = (
    Kind(
        "signed_sum", 1, (("text", "str"),), "int",
        "text is a sum such as 12-3+40, which may begin with a minus. Compute it, but leave out every number greater than {k}, with its sign.",
        """
def signed_sum(text):
    import re
    return sum(int(part) for part in re.findall(r"[+-]?\\d+", text) if abs(int(part)) <= K)
""",
        lambda text, k, m: sum(int(part) for part in text.replace("-", "+-").split("+") if part and abs(int(part)) <= k), _sum,
        (10, 20, 50, 75, 99, 100),
    ),
    Kind(
        "settings_sum", 1, (("text", "str"),), "int",
        "text holds settings name=value separated by semicolons; values are integers, and a later setting replaces an earlier one of the same name. "
        "Add up the values of the names of at least {k} letters. Empty text has no settings.",
        """
def settings_sum(text):
    settings = dict(part.split("=") for part in text.split(";") if part)
    return sum(int(value) for name, value in settings.items() if len(name) >= K)
""",
        _settings_sum,
        _settings, (1, 2, 3, 4),
    ),
    Kind(
        "shallow", 2, (("text", "str"),), "bool",
        "text consists of ( and ). Is every bracket closed in the right order, and are there never more than {k} open at once? Empty text is right.",
        """
def shallow(text):
    depth = 0
    for mark in text:
        depth += 1 if mark == "(" else -1
        if not 0 <= depth <= K:
            return False
    return depth == 0
""",
        _deep, _brackets, (2, 3, 4, 5), large=15,
    ),
    Kind(
        "columns", 2, (("text", "str"),), "words",
        "text is one line of a table: cells separated by commas; a cell in single quotes may hold commas, and the quotes do not belong to it. "
        "Give the cells of at least {k} characters, in order. Cells hold small letters and no spaces.",
        """
def columns(text):
    cells, cell, quoted = [], "", False
    for mark in text + ",":
        if mark == "'":
            quoted = not quoted
        elif mark == "," and not quoted:
            cells.append(cell)
            cell = ""
        else:
            cell += mark
    return [cell for cell in cells if len(cell) >= K]
""",
        lambda text, k, m: [cell for quoted, plain in re.findall(r"(?:^|,)(?:'([^']*)'|([^,']*))", text) if len(cell := quoted or plain) >= k],
        lambda rng, size: [",".join(rng.choice((w, f"'{w}'", f"'{w},{w[:1]}'")) for w in ("".join(rng.choices("abcd", k=rng.randint(1, 5))) for _ in range(size)))],
        (1, 2, 3, 4, 5),
    ),
    Kind(
        "swapped_rules", 3, (("text", "str"),), "int",
        "text is a formula of non-negative integers, +, * and round brackets. Unlike elsewhere, + binds more strongly than *: 2*3+4 is 2*(3+4). "
        "Compute it modulo {k}.",
        """
def swapped_rules(text):
    place = 0
    def product():
        nonlocal place
        value = total()
        while place < len(text) and text[place] == "*":
            place += 1
            value *= total()
        return value
    def total():
        nonlocal place
        value = atom()
        while place < len(text) and text[place] == "+":
            place += 1
            value += atom()
        return value
    def atom():
        nonlocal place
        if text[place] == "(":
            place += 1
            value = product()
            place += 1
            return value
        start = place
        while place < len(text) and text[place].isdigit():
            place += 1
        return int(text[start:place])
    return product() % K
""",
        lambda text, k, m: _swapped(text, k, m), _formula, (97, 101, 1000, 1009, 9973),
    ),
    Kind(
        "unrolled", 3, (("text", "str"),), "str",
        "In text, a digit followed by [...] stands for what is in the brackets written that many times, and brackets may be nested: 2[a3[b]] is abbbabbb. "
        "Write text out, then leave out the first {m} characters and give the next {k} (fewer if there are no more).",
        """
def unrolled(text):
    stack = [("", 1)]
    for mark in text:
        if mark.isdigit():
            times = int(mark)
        elif mark == "[":
            stack.append(("", times))
        elif mark == "]":
            inner, count = stack.pop()
            stack[-1] = (stack[-1][0] + inner * count, stack[-1][1])
        else:
            stack[-1] = (stack[-1][0] + mark, stack[-1][1])
    return stack[0][0][M : M + K]
""",
        _expanded, _repeats, (5, 10, 20), (0, 1, 2, 3),
    ),
)  # fmt: skip
