"""Geometry, derivatives and integrals."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from openk2.gym.single_turn import Generator, Question
from openk2.gym.stem.problem import polynomial, problem, surd


def _circle(rng: Random, level: int) -> Question:
    """An area or a circumference; a sector; a ring."""
    radius = rng.randint(3, 60)
    if level == 1:
        asked, value = rng.choice((("area", Fraction(radius**2)), ("circumference", Fraction(2 * radius))))
        text, unit = (
            f"A circle has a radius of {radius} cm. What is its {asked}, in terms of pi?",
            "cm^2" if asked == "area" else "cm",
        )
        key = f"circle {radius}"
    elif level == 2:
        angle = rng.randrange(10, 351, 5)
        text = (
            f"A sector of a circle with radius {radius} cm has an angle of {angle}°. What is its area, in terms of pi?"
        )
        value, unit, key = Fraction(radius**2 * angle, 360), "cm^2", f"sector {radius} {angle}"
    else:
        height = rng.randint(2, 40)
        text = (
            f"A cone has a base of radius {radius} cm and a height of {height} cm. What is its volume, in terms of pi?"
        )
        value, unit, key = Fraction(radius**2 * height, 3), "cm^3", f"cone {radius} {height}"
    top = rf"{'' if value.numerator == 1 else value.numerator}\pi"
    answer = top if value.denominator == 1 else rf"\frac{{{top}}}{{{value.denominator}}}"
    return problem(f"{text} Answer in {unit}.", answer, key, unit=unit)


def _distance(rng: Random, level: int) -> Question:
    """A hypotenuse; between two points; in space."""
    size = {1: 2, 2: 2, 3: 3}[level]
    steps = [rng.randint(1, 30) for _ in range(size)]
    square = sum(step**2 for step in steps)
    answer = surd(1, square)
    if level == 1:
        text = f"The legs of a right triangle are {steps[0]} m and {steps[1]} m long. How long is the hypotenuse, exactly? Answer in m."
        return problem(text, answer, f"distance {sorted(steps)}", unit="m")
    start = [rng.randint(-20, 20) for _ in steps]
    end = [coordinate + rng.choice((-1, 1)) * step for coordinate, step in zip(start, steps, strict=True)]
    points = " and ".join(f"({', '.join(map(str, point))})" for point in (start, end))
    return problem(f"What is the exact distance between {points}?", answer, f"distance {sorted(steps)}")


def _triangle(rng: Random, level: int) -> Question:
    """The third angle; a similar side; the area by coordinates."""
    if level == 1:
        one, two = rng.randint(20, 110), rng.randint(12, 60)
        text = f"Two angles of a triangle are {one}° and {two}°. How many degrees has the third?"
        return problem(text, 180 - one - two, f"angles {sorted((one, two))}", unit="°")
    if level == 2:
        a, b, c = rng.randint(3, 30), rng.randint(3, 30), rng.randint(3, 60)
        text = (
            f"Two triangles are similar. A side of {a} cm in the first corresponds to one of {b} cm in the second. How long is the side "
            f"of the second that corresponds to {c} cm in the first? Answer in cm, as an integer or a fraction in lowest terms."
        )
        return problem(text, Fraction(b * c, a), f"similar {a} {b} {c}", unit="cm")
    points = [(rng.randint(-15, 15), rng.randint(-15, 15)) for _ in range(3)]
    (ax, ay), (bx, by), (cx, cy) = points
    double = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay))
    if double == 0:
        return _triangle(rng, level)
    text = f"What is the area of the triangle with the corners {', '.join(map(str, points))}?"
    return problem(text, Fraction(double, 2), f"triangle {sorted(points)}")


def _coefficients(rng: Random, degree: int) -> list[int]:
    return [rng.choice((-1, 1)) * rng.randint(1, 12) for _ in range(degree + 1)]


def _derivative(rng: Random, level: int) -> Question:
    """Of a polynomial; at a point; where the slope is zero."""
    if level == 1:
        coefficients = _coefficients(rng, rng.randint(2, 4))
        degree = len(coefficients) - 1
        slope = [factor * (degree - index) for index, factor in enumerate(coefficients[:-1])]
        return problem(
            f"Differentiate {polynomial(coefficients)} with respect to x.", polynomial(slope), f"slope {coefficients}"
        )
    if level == 2:
        coefficients, place = _coefficients(rng, 3), rng.randint(-6, 6)
        a, b, c, _ = coefficients
        text = f"Let f(x) = {polynomial(coefficients)}. What is f'({place})?"
        return problem(
            text, 3 * a * place**2 + 2 * b * place + c, f"slope {coefficients} {place}", names=(f"f'({place})",)
        )
    low = rng.randint(-12, 10)
    high, scale = low + rng.randint(1, 8), rng.randint(1, 4)
    # 6 scale (x - low)(x - high) integrated
    coefficients = [2 * scale, -3 * scale * (low + high), 6 * scale * low * high, rng.randint(-20, 20)]
    text = f"Find all x at which the slope of f(x) = {polynomial(coefficients)} is zero. Give a set."
    return problem(text, rf"\{{{low}, {high}\}}", f"slope {coefficients}", form="set", names="x")


def _integral(rng: Random, level: int) -> Question:
    """Of a linear function, a quadratic one, a cubic one, between two integers."""
    coefficients = _coefficients(rng, level)
    low = rng.randint(-5, 4)
    high = low + rng.randint(1, 6)
    value = Fraction(0)
    for index, factor in enumerate(reversed(coefficients), start=1):
        value += Fraction(factor * (high**index - low**index), index)
    text = rf"Evaluate \int_{{{low}}}^{{{high}}} ({polynomial(coefficients)}) dx exactly."
    return problem(text, value, f"integral {coefficients} {low} {high}")


def _trigonometry(rng: Random, level: int) -> Question:
    """Special triangles: a height; an area; a regular hexagon's."""
    side = rng.randint(3, 80)
    if level == 1:
        text = f"What is the exact height of an equilateral triangle with a side of {2 * side} m? Answer in m."
        return problem(text, surd(side, 3), f"equilateral {side}", unit="m")
    if level == 2:
        other, (angle, root) = rng.randint(3, 40), rng.choice(((45, 2), (60, 3), (120, 3), (135, 2)))
        area = Fraction(side * other, 4)
        text = f"Two sides of a triangle, {side} m and {other} m long, enclose an angle of {angle}°. What is the exact area in m^2?"
        return problem(text, _fraction_of_root(area, root), f"sides {sorted((side, other))} {angle}", unit="m^2")
    apart = rng.randint(3, 40)
    text = (
        f"Two ships leave a port in straight lines that enclose an angle of 60° and sail {side} km and {apart} km. How far apart are "
        "they then, exactly? Answer in km."
    )
    return problem(text, surd(1, side**2 + apart**2 - side * apart), f"cosine {sorted((side, apart))}", unit="km")


def _fraction_of_root(factor: Fraction, radicand: int) -> str:
    top = surd(factor.numerator, radicand)
    return top if factor.denominator == 1 else rf"\frac{{{top}}}{{{factor.denominator}}}"


KINDS_OF_SHAPE: dict[str, Generator] = {
    "circle": _circle,
    "distance": _distance,
    "triangle": _triangle,
    "trigonometry": _trigonometry,
}
KINDS_OF_CHANGE: dict[str, Generator] = {"derivative": _derivative, "integral": _integral}
