"""The time line as inline SVG: a lane for each worker, coloured by what it did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from openk2.view.chart import number, ticks
from openk2.view.rl.spans import Span, Stretch

DOINGS = {
    "rollout": "Rollout",
    "judge": "Judging",
    "train": "Training",
    "environments": "Waiting for environments",
    "update": "Weight update",
    "switch": "Switching",
    "save": "Saving",
}
"""What a worker can be doing, with its title; each has a colour ``do-NAME`` in the style sheet."""
COMPUTES = frozenset({"rollout", "judge", "train", "update"})
"""The rest is time in which nothing is learned."""

WIDTH, LEFT, TOP, BOTTOM = 1080, 34, 22, 24
LANE_WIDTH = WIDTH - LEFT
MAX_BLOCKS = 12_000
LANES_HEIGHT, MAX_LANE, GAP = 220, 20, 3
MIN_LABEL = 56  # between two steps' names

Floats = npt.NDArray[np.float64]


def time_line(stretches: Sequence[Stretch], *, label: str) -> Markup:
    """An SVG of some steps in a row. A restart of the process begins where the one before it ended.

    A lane is cut into columns, a point wide or, of many workers, wider; each shows what took most of its time, so
    that there are ``MAX_BLOCKS`` at most whatever the number of spans. ``label`` is read out by screen readers. Returns an empty text without spans that last.
    """
    placed, starts = _one_clock(stretches)
    whole = max((span.end for span in placed), default=0.0)
    if whole <= 0:
        return Markup("")
    lanes: dict[int, list[Span]] = defaultdict(list)
    for span in placed:
        lanes[span.worker].append(span)
    lane = min(MAX_LANE, max(2.0, LANES_HEIGHT / len(lanes)))
    edges = np.linspace(0.0, whole, max(2, min(LANE_WIDTH, MAX_BLOCKS // len(lanes))) + 1)
    gap = GAP if lane == MAX_LANE else 0.4
    bottom = TOP + lane * len(lanes)
    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + BOTTOM:.0f}" role="img" aria-label="{escape(label)}">']
    for index, (worker, spans) in enumerate(sorted(lanes.items())):
        y, height = TOP + lane * index, lane - gap
        parts.append(f'<rect class="lane" x="{LEFT}" y="{y:.1f}" width="{LANE_WIDTH}" height="{height:.1f}"/>')
        if lane == MAX_LANE:
            parts.append(f'<text x="{LEFT - 8}" y="{y + 13:.1f}" text-anchor="end">{worker}</text>')
        for what, start, end in _blocks(spans, edges):
            title = escape(f"{DOINGS.get(what, what)}, {end - start:.3g} s")
            parts.append(
                f'<rect class="{colour(what)}" x="{_x(start, whole):.1f}" y="{y:.1f}" '
                f'width="{(end - start) / whole * LANE_WIDTH:.1f}" height="{height:.1f}"><title>{title}</title></rect>'
            )
    parts += _axis(whole, bottom) + _steps(stretches, starts, whole, bottom)
    return Markup("".join(parts) + "</svg>")


def colour(what: str) -> str:
    """The class of the style sheet."""
    return f"do-{what}" if what in DOINGS else "do-other"


def _one_clock(stretches: Sequence[Stretch]) -> tuple[list[Span], list[float]]:
    """All spans in seconds since the first began, and where each step begins."""
    placed: list[Span] = []
    starts: list[float] = []
    run, shift, end = None, 0.0, 0.0
    for stretch in stretches:
        if stretch.run != run:
            run, shift = stretch.run, end - stretch.start
        placed += [Span(s.worker, s.what, s.start + shift, s.end + shift) for s in stretch.spans]
        starts.append(stretch.start + shift)
        end = max(end, stretch.end + shift)
    # Clocks may run backwards in a damaged file; nothing is drawn left of the frame.
    first = min((span.start for span in placed), default=0.0)
    return [Span(s.worker, s.what, s.start - first, s.end - first) for s in placed], [at - first for at in starts]


def _x(seconds: float, whole: float) -> float:
    return LEFT + seconds / whole * LANE_WIDTH


def _blocks(spans: Sequence[Span], edges: Floats) -> Iterator[tuple[str, float, float]]:
    """What takes most of each column, as (what, start, end); columns alike are one."""
    by_doing: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_doing[span.what].append(span)
    doings = list(by_doing)
    covered = [_covered(same, edges) for same in by_doing.values()]
    nothing = np.diff(edges) - np.sum(covered, axis=0)
    most = np.argmax([nothing, *covered], axis=0).tolist()
    for which, columns in groupby(range(len(edges) - 1), key=most.__getitem__):
        first, *rest = columns
        if which:
            yield doings[which - 1], float(edges[first]), float(edges[(rest or [first])[-1] + 1])


def _covered(spans: Sequence[Span], edges: Floats) -> Floats:
    """Seconds of each column that the spans cover."""
    return np.diff(_minima([s.end for s in spans], edges) - _minima([s.start for s in spans], edges))


def _minima(points: Sequence[float], edges: Floats) -> Floats:
    """For each edge, the sum of min(point, edge) over the points: the spans' length left of it, ends less starts."""
    ordered = np.sort(points)
    below = np.searchsorted(ordered, edges)
    return np.concatenate([[0.0], np.cumsum(ordered)])[below] + edges * (len(ordered) - below)


def _axis(whole: float, bottom: float) -> list[str]:
    return [
        f'<text x="{_x(at, whole):.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{number(at)} s</text>'
        for at in ticks(0.0, whole, 8)
        if 0 < at < whole * 0.985
    ]


def _steps(stretches: Sequence[Stretch], starts: Sequence[float], whole: float, bottom: float) -> list[str]:
    """A line where each step begins, its name where there is room; a thicker one where the process began anew."""
    parts, free, run = [], 0.0, None
    for stretch, start in zip(stretches, starts, strict=True):
        x = _x(start, whole)
        classes = "step" if run in (None, stretch.run) else "step again"
        parts.append(f'<line class="{classes}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom:.1f}"/>')
        if x >= free:
            parts.append(f'<text x="{x + 4:.1f}" y="{TOP - 7}">step {stretch.step}</text>')
            free = x + MIN_LABEL
        run = stretch.run
    return parts
