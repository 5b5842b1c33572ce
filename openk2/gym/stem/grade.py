"""The verifier: one committed answer against the right one. Rational numbers are compared exactly, the rest by math-verify."""

from __future__ import annotations

from fractions import Fraction

from openk2.gym.stem import judges
from openk2.gym.stem.commit import committed
from openk2.gym.stem.differ import surely_differ
from openk2.gym.stem.expression import tree
from openk2.gym.stem.forms import Piece, Value
from openk2.gym.stem.wanted import Wanted
from openk2.schema import Score, Task


async def verify(reply: str, task: Task) -> Score:
    """1 for the right answer in any accepted form, else 0.

    Parts: ``answered`` (one answer could be read), ``correct``, and ``timed_out`` when math-verify reached its time limit.
    """
    wanted = Wanted.of(task.payload)
    text = committed(reply)
    answer = None if text is None else wanted.read(text)
    if answer is None:
        return Score(0.0, {"answered": 0.0, "correct": 0.0})
    try:
        correct = float(await _same(wanted.gold(), answer, wanted.tolerance))
    except TimeoutError:
        return Score(0.0, {"answered": 1.0, "correct": 0.0, "timed_out": 1.0})
    return Score(correct, {"answered": 1.0, "correct": correct})


async def _same(gold: tuple[Piece, ...], answer: tuple[Piece, ...], tolerance: Fraction | None) -> bool:
    """Is there for each right piece one of its own in the answer? Equality being what it is, the first that fits will do."""
    left = list(answer)
    if len(left) != len(gold):
        return False
    for piece in gold:
        for candidate in left:
            if await _same_piece(piece, candidate, tolerance):
                left.remove(candidate)
                break
        else:
            return False
    return True


async def _same_piece(gold: Piece, answer: Piece, tolerance: Fraction | None) -> bool:
    if gold.brackets != answer.brackets or len(gold.values) != len(answer.values):
        return False
    for right, given in zip(gold.values, answer.values, strict=True):
        if not await _equal(right, given, tolerance):
            return False
    return True


async def _equal(right: Value, given: Value, tolerance: Fraction | None) -> bool:
    if isinstance(right, Fraction) and isinstance(given, Fraction):
        return abs(right - given) <= (tolerance or 0)
    if isinstance(right, Fraction | str) or isinstance(given, Fraction | str):
        return right == given  # a settled expression is no rational number
    if right == given or surely_differ(right, given):
        return right == given
    return await judges.shared().equal(tree(right), tree(given))
