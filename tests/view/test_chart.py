from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.view.chart import HEIGHT, MAX_POINTS, WIDTH, Series, line_chart, number, ticks

finite = st.floats(-1e9, 1e9, allow_nan=False)


@settings(max_examples=100)
@given(finite, finite, st.integers(2, 6))
def test_ticks_enclose_the_range_in_round_steps(a: float, b: float, count: int) -> None:
    low, high = min(a, b), max(a, b)
    found = ticks(low, high, count)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 2 * count + 2
    assert found == sorted(set(found))


@settings(max_examples=50)
@given(st.lists(st.tuples(finite, st.floats(-1e6, 1e6)), min_size=1, max_size=700), st.booleans(), st.booleans())
def test_every_point_lies_inside(points: list[tuple[float, float]], smooth: bool, from_zero: bool) -> None:
    svg = line_chart([Series("a", points, "stage-rl")], label="a", smooth=smooth, includes=(0.0,) if from_zero else ())
    root = ET.fromstring(str(svg))
    for line in root.findall("polyline"):
        places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        assert len(places) <= MAX_POINTS
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


@pytest.mark.parametrize("high", [5e-324, 1e-310, 1e300])
def test_ticks_at_the_ends_of_what_a_float_can_hold(high: float) -> None:
    found = ticks(0.0, high, 2)
    assert found[0] == 0.0
    assert found[-1] >= high


def test_a_rising_line_rises() -> None:
    svg = str(line_chart([Series("a", [(0, 0), (1, 5), (2, 10)], "stage-rl")], label="a"))
    heights = [float(y) for y in re.findall(r",(\d+\.\d)", svg)]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)


def test_what_is_not_finite_is_left_out() -> None:
    broken = [(0.0, -math.inf), (1.0, math.nan)]
    assert line_chart([Series("a", broken, "c")], label="a") == ""
    assert "nan" not in line_chart([Series("a", [*broken, (2.0, 1.0), (3.0, 2.0)], "c")], label="a")


def test_the_axis_begins_at_zero_when_asked() -> None:
    series = [Series("a", [(0, 96.0), (1, 97.0)], "c")]
    assert ">0<" in line_chart(series, label="a", includes=(0.0,)).split('text-anchor="middle"')[0]
    assert ">0<" not in line_chart(series, label="a").split('text-anchor="middle"')[0]


def test_labels_are_escaped() -> None:
    assert "<b>" not in line_chart([Series("a", [(0, 1)], "c")], label='"><b>')


def test_numbers_are_short() -> None:
    values = (0, 0.02, 1.5, 9_000, 12_000, 3_400_000, 2e-5, -0.25)
    assert [number(v) for v in values] == ["0", "0.02", "1.5", "9000", "12k", "3.4M", "2e-5", "-0.25"]


def test_a_band_lies_around_its_line_and_within_the_frame() -> None:
    points, band = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)], [(0.0, math.nan, math.nan), (1.0, -4.0, 5.0), (2.0, 2.5, 3.5)]
    root = ET.fromstring(str(line_chart([Series("a", points, "c", band)], label="a")))
    edge = [tuple(map(float, pair.split(","))) for pair in root.find("polygon").attrib["points"].split()]
    line = [tuple(map(float, pair.split(","))) for pair in root.find("polyline").attrib["points"].split()]
    assert [x for x, _ in edge] == [line[1][0], line[2][0], line[2][0], line[1][0]]
    (_, low), (_, low_end), (_, high_end), (_, high) = edge
    assert 0 <= high < line[1][1] < low <= HEIGHT
    assert high_end < line[2][1] < low_end
