from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.view.rl.gantt import LANE_WIDTH, LEFT, MAX_BLOCKS, time_line
from openk2.view.rl.spans import Span, Stretch

seconds = st.floats(0, 100, allow_nan=False)
some_spans = st.lists(
    st.builds(lambda worker, what, a, b: Span(worker, what, min(a, b), max(a, b)), st.integers(0, 3), st.sampled_from(["rollout", "train", "odd"]), seconds, seconds),
    min_size=1,
    max_size=20,
)  # fmt: skip


def blocks(svg: str) -> list[tuple[float, float, float, str]]:
    """x, y, width and class of all that is coloured."""
    found = [r for r in ET.fromstring(svg).findall("rect") if r.attrib["class"] != "lane"]
    return [(*(float(r.attrib[key]) for key in ("x", "y", "width")), r.attrib["class"]) for r in found]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), some_spans), max_size=4))
def test_all_lies_inside_and_nothing_overlaps(made: list[tuple[int, list[Span]]]) -> None:
    svg = time_line([Stretch(step, run, tuple(spans)) for step, (run, spans) in enumerate(made)], label="t")
    if not svg:
        return
    found = blocks(svg)
    assert all(x >= LEFT and x + width <= LEFT + LANE_WIDTH + 0.1 for x, _, width, _ in found)
    for (x, y, width, _), (next_x, next_y, _, _) in pairwise(found):
        assert y < next_y or x + width <= next_x + 0.15


def test_blocks_are_where_the_spans_are() -> None:
    spans = (Span(4, "rollout", 100.0, 105.0), Span(4, "train", 107.5, 110.0), Span(9, "odd", 100.0, 110.0))
    found = blocks(time_line([Stretch(3, 0, spans)], label="t"))
    assert [colour for *_, colour in found] == ["do-rollout", "do-train", "do-other"]
    assert [x for x, *_ in found] == pytest.approx([34, 34 + 784.5, 34], abs=1)
    assert [width for _, _, width, _ in found] == pytest.approx([523, 261.5, 1046], abs=1)


def test_a_restart_goes_on_where_the_run_ended() -> None:
    first, second = Stretch(1, 0, (Span(0, "rollout", 40.0, 45.0),)), Stretch(2, 1, (Span(0, "train", 1.0, 6.0),))
    svg = time_line([first, second], label="t")
    assert [(x, width, colour) for x, _, width, colour in blocks(svg)] == [
        (34, 523, "do-rollout"),
        (557, 523, "do-train"),
    ]
    assert re.findall(r'class="(step[^"]*)" x1="([^"]*)"', svg) == [("step", "34.0"), ("step again", "557.0")]


def test_the_picture_is_bounded_and_many_workers_fit() -> None:
    spans = tuple(
        Span(w, ("rollout", "environments")[i % 2], i * 0.01, (i + 1) * 0.01) for w in range(64) for i in range(500)
    )
    svg = time_line([Stretch(1, 0, spans)], label="t")
    assert len(blocks(svg)) <= MAX_BLOCKS
    height = float(ET.fromstring(svg).attrib["viewBox"].split()[3])
    assert height < 300


def test_nothing_gives_nothing_and_names_are_escaped() -> None:
    assert time_line([], label="t") == ""
    assert time_line([Stretch(1, 0, (Span(0, "rollout", 1.0, 1.0),))], label="t") == ""
    svg = time_line([Stretch(1, 0, (Span(0, "<script>", 1.0, 2.0),))], label='"><b>')
    assert "<script>" not in svg
    assert "<b>" not in svg
