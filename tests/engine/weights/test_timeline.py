"""A record of who did what when."""

import pytest

from openk2.engine.weights.timeline import Span, Timeline


@pytest.fixture
def timeline() -> Timeline:
    """Copy of 1 beside broadcast of 0, one second of four."""
    return Timeline(
        [Span("copy", 0, 0, 1), Span("broadcast", 0, 1, 3), Span("copy", 1, 1, 2), Span("broadcast", 1, 3, 4)]
    )


def test_overlap_and_text(timeline):
    assert timeline.seconds == 4
    assert timeline.busy() == {"copy": 2, "broadcast": 3}
    assert timeline.overlapped() == pytest.approx(0.25)
    assert timeline.text(width=8).splitlines() == [
        "copy      0011···· 2000.0 ms",
        "broadcast ··000011 3000.0 ms",
        "4000.0 ms, 25% of it in two stages at once",
    ]


def test_a_stage_is_at_one_bucket_at_a_time():
    timeline = Timeline()
    timeline.add("broadcast", 0, 0.0)
    timeline.add("broadcast", 1, 0.0)
    first, second = timeline.spans
    assert second.start == first.stop


def test_it_can_be_drawn(timeline, tmp_path):
    timeline.draw(tmp_path / "update.png", "an update")
    assert (tmp_path / "update.png").read_bytes().startswith(b"\x89PNG")
    assert Timeline().text() == "nothing was moved"
