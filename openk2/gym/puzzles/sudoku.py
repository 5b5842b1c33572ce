"""Sudoku of 4, 6 or 9 digits a row; a solver proves that the solution is the only one (K2 §3.2)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from openk2.gym.final import FORM
from openk2.gym.puzzles.kind import Kind
from openk2.gym.single_turn import Question

_BOX = {1: (2, 2), 2: (2, 3), 3: (3, 3)}  # rows and columns of a box, by level
_BLANKS = {1: (9, 11), 2: (18, 21), 3: (38, 46)}
_LAYOUT = re.compile(r"[\s|,;:\[\]()+=_-]*")
_ROW_LABEL = re.compile(r"^[\s|*-]{0,4}r(?:ow)?[ \t]{0,2}([1-9])[ \t]{0,2}[:.)|-]", re.IGNORECASE | re.MULTILINE)

Grid = tuple[int, ...]
"""Row by row; 0 is a blank."""


def _draw(rng: random.Random, level: int) -> Question:
    rows, columns = _BOX[level]
    size = rows * columns
    solution = solutions((0,) * size**2, rows, columns, most=1, rng=rng)[0]
    puzzle = _thinned(solution, rows, columns, rng.randint(*_BLANKS[level]), rng)
    drawn = "\n".join(" ".join(str(digit or ".") for digit in row) for row in _in_rows(puzzle))
    text = (
        f"Fill the grid so that every row, every column and every box of {rows} rows by {columns} columns holds each of the "
        f"digits 1 to {size} once. Dots are blanks.\n\n{drawn}\n\n{FORM} the full grid alone, row by row."
    )
    answer = "\n".join(" ".join(map(str, row)) for row in _in_rows(solution))
    return Question(text, answer, _key(puzzle), facts={"puzzle": list(puzzle), "box": [rows, columns]})


def solutions(grid: Grid, rows: int, columns: int, *, most: int = 2, rng: random.Random | None = None) -> list[Grid]:
    """Up to ``most`` ways to fill the blanks, for boxes of ``rows`` by ``columns``; tried in an order that ``rng`` draws."""
    size = rows * columns
    peers = _peers(rows, columns)
    free = [(1 << size) - 1] * size**2
    cells = list(grid)
    for cell, digit in enumerate(grid):
        if digit:
            if not free[cell] >> (digit - 1) & 1:
                return []
            for peer in peers[cell]:
                free[peer] &= ~(1 << (digit - 1))
    blanks = {cell for cell, digit in enumerate(grid) if not digit}
    found: list[Grid] = []

    def fill() -> None:
        if not blanks:
            found.append(tuple(cells))
            return
        cell = min(blanks, key=lambda blank: free[blank].bit_count())
        digits = [digit for digit in range(size) if free[cell] >> digit & 1]
        if rng is not None:
            rng.shuffle(digits)
        blanks.remove(cell)
        for digit in digits:
            touched = [peer for peer in peers[cell] if peer in blanks and free[peer] >> digit & 1]
            for peer in touched:
                free[peer] ^= 1 << digit
            cells[cell] = digit + 1
            fill()
            for peer in touched:
                free[peer] ^= 1 << digit
            if len(found) >= most:
                break
        blanks.add(cell)

    fill()
    return found


@cache
def _peers(rows: int, columns: int) -> list[tuple[int, ...]]:
    """For each cell the others of its row, column and box."""
    size = rows * columns
    places = [(cell // size, cell % size) for cell in range(size**2)]
    return [
        tuple(
            other
            for other, (row, column) in enumerate(places)
            if (row, column) != (r, c)
            and (row == r or column == c or (row // rows, column // columns) == (r // rows, c // columns))
        )
        for r, c in places
    ]


def _thinned(solution: Grid, rows: int, columns: int, num_blanks: int, rng: random.Random) -> Grid:
    """The solution with up to ``num_blanks`` blanks, as many as leave it the only one in the order drawn."""
    grid, blanks = list(solution), 0
    for cell in rng.sample(range(len(grid)), len(grid)):
        if blanks == num_blanks:
            break
        grid[cell] = 0
        if len(solutions(tuple(grid), rows, columns)) == 1:
            blanks += 1
        else:
            grid[cell] = solution[cell]
    return tuple(grid)


def _in_rows(grid: Sequence[int]) -> list[Sequence[int]]:
    size = round(len(grid) ** 0.5)
    return [grid[start : start + size] for start in range(0, len(grid), size)]


def _key(puzzle: Grid) -> str:
    """The puzzle with its digits renamed in the order they come: a renamed twin is the same problem."""
    names = {0: 0}
    return " ".join(str(names.setdefault(digit, len(names))) for digit in puzzle)


def _judge(text: str, payload: Mapping[str, Any]) -> bool | None:
    puzzle = payload["puzzle"]
    size = round(len(puzzle) ** 0.5)
    labels = [int(label) for label in _ROW_LABEL.findall(text)]
    if labels == list(range(1, size + 1)):
        text = _ROW_LABEL.sub(" ", text)
    digits = re.sub(_LAYOUT, "", text)
    if len(digits) != len(puzzle) or not re.fullmatch("[1-9]+", digits):
        return None
    filled = tuple(map(int, digits))
    kept = all(given in (0, digit) for given, digit in zip(puzzle, filled, strict=True))
    return kept and len(solutions(filled, *payload["box"])) == 1


def _guess(payload: Mapping[str, Any], rng: random.Random) -> str:
    """Each row gets the digits it lacks in any order."""
    filled = []
    for row in _in_rows(payload["puzzle"]):
        missing = rng.sample([digit for digit in range(1, len(row) + 1) if digit not in row], row.count(0))
        filled.append(" ".join(str(digit or missing.pop()) for digit in row))
    return "\n".join(filled)


KIND = Kind(_draw, _judge, _guess)
