"""Small line charts as inline SVG, coloured by the page's own style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 24
MAX_POINTS = 240
MIN_SMOOTHED = 24

Point = tuple[float, float]
Points = npt.NDArray[np.float64]  # a row a point: x, y


@dataclass(frozen=True, slots=True)
class Chart:
    """One metric as a chart: whether it is noisy, and whether its axis begins at zero.

    A metric that ends in a slash is a family: each of its members is a line.
    """

    label: str
    metric: str
    noisy: bool = False
    from_zero: bool = False

    @property
    def includes(self) -> tuple[float, ...]:
        """What its axis reaches to."""
        return (0.0,) if self.from_zero else ()


@dataclass(frozen=True, slots=True)
class Series:
    """A named line; ``colour`` is a class of the style sheet.

    ``band`` encloses it: rows of x, low, high, drawn where both ends are finite. It is not thinned.
    """

    name: str
    points: Sequence[Point] | Points
    colour: str
    band: Sequence[tuple[float, float, float]] = ()


def line_chart(series: Sequence[Series], *, label: str, smooth: bool = False, includes: Sequence[float] = ()) -> Markup:
    """An SVG of the series over a common x axis, at most ``MAX_POINTS`` points each.

    Points that are not finite are left out. With ``smooth``, a noisy line is drawn faint with its
    running mean on top. The y axis reaches to what it ``includes``. ``label`` is read out by screen readers.
    Returns an empty text without points.
    """
    lines = [(s.colour, _thin(_finite(s.points)), _finite_band(s.band)) for s in series]
    everything = [point for _, points, _ in lines for point in points]
    if not everything:
        return Markup("")
    x_low, x_high = min(x for x, _ in everything), max(x for x, _ in everything)
    heights = [*includes, *(y for _, y in everything)]
    heights += [end for _, _, band in lines for _, *ends in band for end in ends]
    y_ticks = ticks(min(heights), max(heights), 4)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> Point:
        right = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        up = (y - y_low) / (y_high - y_low)
        return LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    # What the frame stands for, so that a page can read a value off the picture.
    frame = f"{LEFT} {WIDTH - RIGHT} {TOP} {HEIGHT - BOTTOM} {x_low:.9g} {x_high:.9g} {y_low:.9g} {y_high:.9g}"
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" data-frame="{frame}">'
    parts = [head]
    for tick in y_ticks:
        _, y = place(x_low, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in ticks(x_low, x_high, 5):
        if x_low <= tick <= x_high:
            x, _ = place(tick, y_low)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{number(tick)}</text>')
    for colour, _, band in lines:
        if band:
            edge = [place(x, low) for x, low, _ in band] + [place(x, high) for x, _, high in reversed(band)]
            parts.append(f'<polygon class="{colour}" points="{_places(edge)}"/>')
    for colour, points, _ in lines:
        smoothed = smooth and len(points) >= MIN_SMOOTHED
        parts.append(_polyline([place(*p) for p in points], f"{colour}{' faint' if smoothed else ''}"))
        if smoothed:
            parts.append(_polyline([place(*p) for p in _running_mean(points)], colour))
    return Markup("".join(parts) + "</svg>")


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers around [low, high], about ``count`` steps of 1, 2 or 5 times a power of ten."""
    # What is nearer to zero than any float's full precision is drawn as zero.
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-300):
        low, high = (low - abs(low) * 0.1, high + abs(high) * 0.1) if abs(low) > 1e-290 else (0.0, 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def number(value: float) -> str:
    """A number as short as a tick wants it: 0.02, 1.5, 12k, 3.4M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):.3g}{suffix}"
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def _finite(points: Sequence[Point] | Points) -> Points:
    rows = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return rows[np.isfinite(rows).all(axis=1)]


def _finite_band(band: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    return [row for row in band if all(map(math.isfinite, row))]


def _thin(points: Points) -> list[Point]:
    """Means of consecutive points, so that at most ``MAX_POINTS`` are left."""
    size = math.ceil(len(points) / MAX_POINTS)
    if size > 1:
        starts = np.arange(0, len(points), size)
        points = np.add.reduceat(points, starts) / np.diff([*starts, len(points)])[:, None]
    return [(x, y) for x, y in points.tolist()]


def _running_mean(points: Sequence[Point]) -> list[Point]:
    """The centred mean over a twelfth of the line."""
    reach = max(1, len(points) // 24)
    out = []
    for i, (x, _) in enumerate(points):
        near = points[max(0, i - reach) : i + reach + 1]
        out.append((x, math.fsum(y for _, y in near) / len(near)))
    return out


def _polyline(points: Sequence[Point], classes: str) -> str:
    if len(points) == 1:
        return f'<circle class="{classes}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2.5"/>'
    return f'<polyline class="{classes}" points="{_places(points)}"/>'


def _places(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
