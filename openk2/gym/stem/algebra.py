"""Equations, systems, inequalities, polynomials, roots, fractions and percentages."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

from openk2.gym.single_turn import Generator, Question
from openk2.gym.stem.problem import exact, polynomial, problem, surd


def _nonzero(rng: Random, most: int) -> int:
    return rng.choice((-1, 1)) * rng.randint(1, most)


def _linear_equation(rng: Random, level: int) -> Question:
    """First ax + b = c; from level 2 x on both sides; at level 3 brackets, and x may be a fraction."""
    a, b, x = rng.randint(2, 9), _nonzero(rng, 30), _nonzero(rng, 40)
    if level == 1:
        return problem(f"Solve for x: {polynomial((a, b))} = {a * x + b}.", x, f"linear {a} {b} {x}", names="x")
    c = _nonzero(rng, 9)
    if c == a:
        c = -a
    if level == 2:
        d = (a - c) * x + b
        text = f"Solve for x: {polynomial((a, b))} = {polynomial((c, d))}."
        return problem(text, x, f"linear {a} {b} {c} {d}", names="x")
    d, e = _nonzero(rng, 12), _nonzero(rng, 20)
    root = Fraction(e - a * b, a - c * d) if a != c * d else Fraction(0)
    if root == 0:
        return _linear_equation(rng, level)
    text = f"Solve for x: {a}({polynomial((1, b))}) = {polynomial((c * d, e))}. Give a fraction in lowest terms if x is no integer."
    return problem(text, root, f"linear {a} {b} {c * d} {e}", names="x")


def _quadratic_equation(rng: Random, level: int) -> Question:
    """All roots: integers; fractions too; at level 3 surds."""
    p, q = rng.randint(-15, 15), rng.randint(-15, 15)
    if p == q:
        q = p + rng.randint(1, 9)
    if level < 3:
        a = 1 if level == 1 else rng.randint(2, 7)
        coefficients = (a, -(a * p + q), p * q)  # (x - p)(a x - q)
        roots = {Fraction(p), Fraction(q, a)}
        if len(roots) == 1:
            return _quadratic_equation(rng, level)
        answer = ", ".join(map(str, sorted(roots)))
    else:
        middle, radicand = rng.randint(-12, 12), rng.randint(2, 60)
        if math.isqrt(radicand) ** 2 == radicand:
            return _quadratic_equation(rng, level)
        coefficients = (1, -2 * middle, middle**2 - radicand)
        root, shown = surd(1, radicand), "" if middle == 0 else str(middle)
        answer = f"{shown} - {root}, {shown} + {root}" if shown else f"-{root}, {root}"
    text = f"Find all real x with {polynomial(coefficients)} = 0. Give the exact roots as a set."
    return problem(text, rf"\{{{answer}\}}", f"quadratic {coefficients}", form="set", names="x")


def _linear_system(rng: Random, level: int) -> Question:
    """Two equations in integers; at level 2 negative ones; at level 3 three equations."""
    low = 1 if level == 1 else -15
    size = 3 if level == 3 else 2
    letters = ("x", "y", "z")[:size]
    solution = [rng.randint(low, 15) for _ in letters]
    rows = [[rng.randint(1, 6) if level == 1 else _nonzero(rng, 7) for _ in letters] for _ in letters]
    if _determinant(rows) == 0:
        return _linear_system(rng, level)
    shown = []
    for row in rows:
        total = sum(factor * value for factor, value in zip(row, solution, strict=True))
        left = "".join(
            f"{' + ' if factor > 0 else ' - '}{'' if abs(factor) == 1 else abs(factor)}{letter}"
            for factor, letter in zip(row, letters, strict=True)
        )
        left = left[3:] if left.startswith(" + ") else "-" + left[3:]
        shown.append(f"{left} = {total}")
    text = f"Solve the system {'; '.join(shown)}. Give the tuple ({', '.join(letters)})."
    return problem(text, f"({', '.join(map(str, solution))})", f"system {rows} {solution}", form="tuple", names=letters)


def _determinant(rows: list[list[int]]) -> int:
    if len(rows) == 1:
        return rows[0][0]
    minors = ([row[:column] + row[column + 1 :] for row in rows[1:]] for column in range(len(rows)))
    return sum((-1) ** column * rows[0][column] * _determinant(minor) for column, minor in enumerate(minors))


def _inequality(rng: Random, level: int) -> Question:
    """A ray; a segment; the inside or outside of a parabola's roots."""
    if level == 1:
        a, b, bound = _nonzero(rng, 9), _nonzero(rng, 30), rng.randint(-40, 40)
        a = a if abs(a) > 1 else 3
        sign = rng.choice(("<", "<=", ">", ">="))
        closed, upper = sign.endswith("="), (sign[0] == "<") == (a > 0)
        answer = (
            rf"(-\infty, {bound}{']' if closed else ')'}" if upper else rf"{'[' if closed else '('}{bound}, \infty)"
        )
        text = f"Solve {polynomial((a, b))} {sign} {a * bound + b} for real x."
        key = f"inequality {a} {b} {sign} {bound}"
    else:
        low = rng.randint(-30, 20)
        high = low + rng.randint(1, 40)
        if level == 2:
            a, b = rng.randint(2, 9), _nonzero(rng, 30)
            left, right = rng.choice(("<", "<=")), rng.choice(("<", "<="))
            answer = f"{'[' if left == '<=' else '('}{low}, {high}{']' if right == '<=' else ')'}"
            text = f"Solve {a * low + b} {left} {polynomial((a, b))} {right} {a * high + b} for real x."
            key = f"inequality {a} {b} {low} {high} {left} {right}"
        else:
            sign = rng.choice(("<", "<=", ">", ">="))
            shut = sign.endswith("=")
            if sign[0] == "<":
                answer = f"{'[' if shut else '('}{low}, {high}{']' if shut else ')'}"
            else:
                answer = rf"(-\infty, {low}{']' if shut else ')'} \cup {'[' if shut else '('}{high}, \infty)"
            text = f"Solve {polynomial((1, -low - high, low * high))} {sign} 0 for real x."
            key = f"inequality {low} {high} {sign}"
    return problem(f"{text} Give the solution in interval notation.", answer, key, form="interval", names="x")


def _expand(rng: Random, level: int) -> Question:
    """Two linear factors; with leading coefficients; three of them."""
    factors = [(1 if level == 1 else _nonzero(rng, 6), _nonzero(rng, 12)) for _ in range(3 if level == 3 else 2)]
    product: list[int] = [1]
    for a, b in factors:
        product = [a * high + b * low for high, low in zip([*product, 0], [0, *product], strict=True)]
    shown = "".join(f"({polynomial(factor)})" for factor in factors)
    return problem(
        f"Expand {shown} and collect like terms.", polynomial(product), f"product {sorted(factors)}", names="xy"[:0]
    )


def _factor(rng: Random, level: int) -> Question:
    """x^2 + bx + c; with a leading coefficient; with a common factor as well."""
    p, q = _nonzero(rng, 15), _nonzero(rng, 15)
    if p == q:
        q = -q
    a = 1 if level == 1 else rng.randint(2, 7)
    common = rng.randint(2, 6) if level == 3 else 1
    if math.gcd(a, p) > 1:
        return _factor(rng, level)
    coefficients = tuple(common * value for value in (a, a * q + p, p * q))  # (a x + p)(x + q)
    answer = f"{common if common > 1 else ''}({polynomial((a, p))})({polynomial((1, q))})"
    text = f"Factor {polynomial(coefficients)} completely over the integers."
    return problem(text, answer, f"product {sorted([(a, p), (1, q)])} {common}")


def _simplify_root(rng: Random, level: int) -> Question:
    """A product of two; a sum of two like ones; a product of brackets."""
    radicand = rng.choice((2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19, 21, 22, 23))
    one, two = rng.randint(2, 30), rng.randint(2, 30)
    if level == 1:
        other = rng.choice((2, 3, 5, 7))
        text = rf"Multiply \sqrt{{{one * radicand}}} \cdot \sqrt{{{one * other}}} and simplify."
        answer = surd(one, radicand * other)
        key = f"root {one} {sorted((radicand, other))}"
    elif level == 2:
        text = rf"Simplify \sqrt{{{one**2 * radicand}}} + \sqrt{{{two**2 * radicand}}} to a single root."
        answer, key = surd(one + two, radicand), f"root {sorted((one, two))} {radicand}"
    else:
        text = rf"Expand and simplify ({one} + \sqrt{{{radicand}}})({two} - \sqrt{{{radicand}}})."
        whole, step = one * two - radicand, two - one
        if step == 0 or whole == 0:
            return _simplify_root(rng, level)
        answer = f"{whole} {'+' if step > 0 else '-'} {surd(abs(step), radicand)}"
        key = f"root bracket {one} {two} {radicand}"
    return problem(text, answer, key)


def _fractions(rng: Random, level: int) -> Question:
    """A sum; a sum times a fraction; a quotient of a difference."""
    a, b, c = (Fraction(rng.randint(1, 20), rng.randint(2, 15)) for _ in range(3))
    if 1 in (a.denominator, b.denominator, c.denominator):
        return _fractions(rng, level)
    shown = [f"{number.numerator}/{number.denominator}" for number in (a, b, c)]
    if level == 1:
        value, text = a + b, f"{shown[0]} + {shown[1]}"
    elif level == 2:
        value, text = (a + b) * c, f"({shown[0]} + {shown[1]}) * {shown[2]}"
    else:
        value, text = (a - b) / c, f"({shown[0]} - {shown[1]}) / ({shown[2]})"
    return problem(
        f"Compute {text}. Give an integer or a fraction in lowest terms.", value, f"fractions {level} {text}"
    )


def _percentage(rng: Random, level: int) -> Question:
    """A share of an amount; the price before a change; the change after two changes, in percent."""
    share, other = rng.randrange(4, 96, 2), rng.randrange(4, 96, 2)
    if level == 1:
        amount = rng.randrange(50, 2000, 10)
        return problem(
            f"What is {share}% of {amount}?", exact(Fraction(share * amount, 100)), f"percent {share} {amount}"
        )
    if level == 2:
        before = rng.randrange(50, 1500, 5)
        word, factor = rng.choice((("raised", 100 + share), ("lowered", 100 - share)))
        after = exact(Fraction(before * factor, 100))
        text = f"A number was {word} by {share}% and is {after} now. What was it before?"
        return problem(text, before, f"percent {before} {word} {share}")
    change = Fraction((100 + share) * (100 - other), 100) - 100
    if change == 0:
        return _percentage(rng, level)
    text = (
        f"A price rises by {share}% and then falls by {other}%. By how many percent is it higher in the end than at first? "
        "Give a negative number if it is lower."
    )
    return problem(text, exact(change), f"percent {share} {other}", unit="%")


KINDS: dict[str, Generator] = {
    "linear_equation": _linear_equation,
    "quadratic_equation": _quadratic_equation,
    "linear_system": _linear_system,
    "inequality": _inequality,
    "expand": _expand,
    "factor": _factor,
    "simplify_root": _simplify_root,
    "fractions": _fractions,
    "percentage": _percentage,
}
