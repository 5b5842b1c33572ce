"""``timeline.jsonl``: who did what, from when to when. Steps are indexed; their spans are read when looked at."""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from openk2.schema import JSON
from openk2.view.rl.tail import Tail, parse


@dataclass(frozen=True, slots=True)
class Span:
    """What a worker did, in seconds since its process began."""

    worker: int
    what: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """One step of the time line. ``run`` counts the process's starts: each has its own clock."""

    step: int
    run: int
    spans: tuple[Span, ...]

    @property
    def start(self) -> float:
        """Of the first span."""
        return min(span.start for span in self.spans)

    @property
    def end(self) -> float:
        """Of the last span."""
        return max(span.end for span in self.spans)

    def seconds(self) -> Mapping[str, float]:
        """Worker seconds by what was done; ``""`` is what no span tells about."""
        spent: dict[str, float] = defaultdict(float)
        for span in self.spans:
            spent[span.what] += span.end - span.start
        whole = len({span.worker for span in self.spans}) * (self.end - self.start)
        spent[""] = max(0.0, whole - math.fsum(spent.values()))
        return spent


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    length: int
    seconds: Mapping[str, float]


class TimeLine:
    """A ``timeline.jsonl`` being followed. A row takes back those of its step and of later ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tail = Tail(path)
        self._steps: list[int] = []
        self._places: list[_Place] = []
        self._without_spans = 0
        self.num_damaged = 0

    def poll(self) -> bool:
        """Read what is new. True when anything has changed."""
        changed = False
        for line in self._tail.lines():
            changed = True
            if line is None:
                self._steps, self._places, self._without_spans = [], [], 0
            elif (stretch := _stretch(line.record)) is not None:
                keep = bisect_left(self._steps, stretch.step)
                del self._steps[keep:], self._places[keep:]
                self._steps.append(stretch.step)
                self._places.append(_Place(line.offset, line.length, stretch.seconds()))
            else:
                self._without_spans += 1
        self.num_damaged = self._tail.num_damaged + self._without_spans
        return changed

    def until(self, step: int | None, count: int) -> list[Stretch]:
        """The last ``count`` steps up to ``step``, in order; None for the newest."""
        end = len(self._steps) if step is None else bisect_right(self._steps, step)
        found = []
        for place in self._places[max(0, end - count) : end]:
            with self._path.open("rb") as file:
                file.seek(place.offset)
                record = parse(file.read(place.length))
            # A file that is being written anew is read again at the next poll.
            if record is not None and (stretch := _stretch(record)) is not None:
                found.append(stretch)
        return found

    def seconds(self) -> dict[str, float]:
        """Worker seconds of all steps by what was done."""
        return add_up(place.seconds for place in self._places)


def add_up(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of several counts."""
    whole: dict[str, float] = defaultdict(float)
    for part in parts:
        for name, amount in part.items():
            whole[name] += amount
    return dict(whole)


def _stretch(row: JSON) -> Stretch | None:
    """A row's step; None for one without a step or spans. Spans that end before they begin are left out."""
    found = []
    try:
        for told in row["spans"]:
            span = Span(int(told["worker"]), sys.intern(str(told["what"])), float(told["start"]), float(told["end"]))
            if math.isfinite(span.end - span.start) and span.end >= span.start:
                found.append(span)
        stretch = Stretch(int(row["step"]), int(row.get("run", 0)), tuple(found))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return stretch if found else None
