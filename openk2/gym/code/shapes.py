"""The shapes of what problems take and give: how they are said, read from stdin, and written to stdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Shape = Literal["int", "str", "ints", "words", "rows", "bool"]

SAID: dict[Shape, str] = {
    "int": "an int", "str": "a str", "ints": "a list of int", "words": "a list of str", "rows": "a list of lists of int",
    "bool": "a bool",
}  # fmt: skip
LINES: dict[Shape, str] = {
    "int": "a line with one integer",
    "str": "one line of text, which may be empty",
    "ints": "a line of integers with spaces between, which may be empty",
    "words": "a line of words with spaces between, which may be empty",
    "rows": "a line with the number of rows, then each row as a line of integers with spaces between",
    "bool": "a line, yes or no",
}
_READ: dict[Shape, str] = {
    "int": "int(input())", "str": "input()", "ints": "[int(x) for x in input().split()]", "words": "input().split()",
    "rows": "[[int(x) for x in input().split()] for _ in range(int(input()))]",
}  # fmt: skip
_PRINT: dict[Shape, str] = {
    "int": "print(result)", "str": "print(result)", "ints": "print(*result)", "words": "print(*result)",
    "rows": "print(len(result))\nfor row in result:\n    print(*row)", "bool": "print('yes' if result else 'no')",
}  # fmt: skip


def written(shape: Shape, value: Any) -> str:
    """A value as lines of text."""
    match shape:
        case "ints" | "words":
            return " ".join(map(str, value)) + "\n"
        case "rows":
            return "".join([f"{len(value)}\n", *(written("ints", row) for row in value)])
        case "bool":
            return "yes\n" if value else "no\n"
    return f"{value}\n"


def reading_main(function: str, takes: Sequence[Shape], gives: Shape) -> str:
    """The lines of a program that read what a function takes, call it, and print what it gives."""
    names = [f"given_{place}" for place in range(len(takes))]
    reads = [f"{name} = {_READ[shape]}\n" for name, shape in zip(names, takes, strict=True)]
    return f"\n\n{''.join(reads)}result = {function}({', '.join(names)})\n{_PRINT[gives]}\n"
