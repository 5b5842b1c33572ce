"""When each bucket was in which stage: a record to look at, so that overlap is seen and not assumed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

WIDTH = 72
MARKS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Span:
    """A stage at work on a bucket; seconds of ``time.monotonic``, which all processes of a machine share."""

    stage: str
    bucket: int
    start: float
    stop: float


@dataclass(slots=True)
class Timeline:
    """The spans of one rank's part in an update."""

    spans: list[Span] = field(default_factory=list)
    _ended: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def span(self, stage: str, bucket: int) -> Iterator[None]:
        """Record what happens inside."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, bucket, start)

    def add(self, stage: str, bucket: int, start: float) -> None:
        """Record what ends now; stages record from threads of their own (appending to a list is atomic).

        What began while the stage was at another bucket counts from that one's end.
        """
        now = time.monotonic()
        self.spans.append(Span(stage, bucket, max(start, self._ended.get(stage, start)), now))
        self._ended[stage] = now

    @property
    def seconds(self) -> float:
        """From the first start to the last stop."""
        return max(span.stop for span in self.spans) - min(span.start for span in self.spans) if self.spans else 0.0

    def busy(self) -> dict[str, float]:
        """Seconds each stage was at work."""
        seconds: dict[str, float] = {}
        for span in self.spans:
            seconds[span.stage] = seconds.get(span.stage, 0.0) + span.stop - span.start
        return seconds

    def overlapped(self) -> float:
        """Share of the time in which two or more stages were at work at once."""
        edges = sorted([(span.start, 1) for span in self.spans] + [(span.stop, -1) for span in self.spans])
        at_work, together = 0, 0.0
        for (moment, step), (following, _) in pairwise(edges):
            at_work += step
            if at_work > 1:
                together += following - moment
        return together / self.seconds if self.seconds else 0.0

    def text(self, width: int = WIDTH) -> str:
        """A line for each stage; a mark is a bucket's number, modulo 36, and a dot is a wait."""
        if not self.spans:
            return "nothing was moved"
        began = min(span.start for span in self.spans)
        lines = []
        longest = max(len(stage) for stage in self.busy())
        for stage, seconds in self.busy().items():
            line = ["·"] * width
            for span in (span for span in self.spans if span.stage == stage):
                first, last = (int((moment - began) / self.seconds * width) for moment in (span.start, span.stop))
                first = min(first, width - 1)
                line[first : max(last, first + 1)] = MARKS[span.bucket % len(MARKS)] * max(last - first, 1)
            lines.append(f"{stage:<{longest}} {''.join(line)} {seconds * 1e3:.1f} ms")
        return "\n".join([*lines, f"{self.seconds * 1e3:.1f} ms, {self.overlapped():.0%} of it in two stages at once"])

    def draw(self, path: Path, title: str) -> None:
        """The same as a picture (PNG, SVG or PDF by the path's suffix)."""
        from matplotlib.figure import Figure

        stages = list(self.busy())
        began = min(span.start for span in self.spans)
        figure = Figure(figsize=(8, 0.6 + 0.4 * len(stages)), layout="constrained")
        axes = figure.add_subplot()
        for span in self.spans:
            left, row = (span.start - began) * 1e3, stages.index(span.stage)
            axes.barh(row, (span.stop - span.start) * 1e3, left=left, color=f"C{span.bucket % 10}", edgecolor="white")
        axes.set_yticks(range(len(stages)), stages)
        axes.invert_yaxis()
        axes.set_xlabel("ms")
        axes.set_title(title, loc="left")
        figure.savefig(path)
