"""Where the time of a step goes: spans by process, and the share in which nobody computes (K2 §3.3)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openk2.jobs import jsonl
from openk2.schema import JSON

What = Literal["rollout", "environments", "judge", "train", "update", "switch", "save"]
COMPUTES = frozenset({"rollout", "judge", "train", "update"})


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one process's time, by ``time.perf_counter``."""

    worker: int
    what: What
    start: float
    end: float


class Timeline:
    """The spans since the last step. What belongs to no span is neither rollout nor training: data, metrics, Python."""

    def __init__(self) -> None:
        self.began = self._since = time.perf_counter()
        self._spans: list[Span] = []

    @contextmanager
    def span(self, what: What) -> Iterator[None]:
        """Note how long this takes, in this process."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spans.append(Span(0, what, start, time.perf_counter()))

    def add(self, spans: Iterable[Span]) -> None:
        """Note what other processes told: their clock is the same."""
        self._spans += spans

    def idle_share(self) -> float:
        """Part of the time since the last step in which no process computed."""
        computed, reached, now = 0.0, self._since, time.perf_counter()
        for span in sorted((span for span in self._spans if span.what in COMPUTES), key=lambda span: span.start):
            computed += max(0.0, span.end - max(span.start, reached))
            reached = max(reached, span.end)
        return 1.0 - computed / max(now - self._since, 1e-9)

    def take(self) -> list[JSON]:
        """The spans by process, in seconds since the first step began; a new step begins."""
        spans = sorted(self._spans, key=lambda span: (span.worker, span.start))
        self._spans, self._since = [], time.perf_counter()
        times = [{"start": round(span.start - self.began, 4), "end": round(span.end - self.began, 4)} for span in spans]
        return [{"worker": span.worker, "what": span.what, **when} for span, when in zip(spans, times, strict=True)]


class TimelineLog(jsonl.Appender):
    """``timeline.jsonl`` of a stage, a row of spans a step. Opening it at step S drops the rows after S; ``run`` counts the openings."""

    def __init__(self, folder: Path, *, from_step: int) -> None:
        path = folder / "timeline.jsonl"
        kept = [row for row in jsonl.read(path) if row["step"] <= from_step] if path.exists() else []
        jsonl.write(path, kept)
        self._run = 1 + max((row["run"] for row in kept), default=-1)
        super().__init__(path)

    def add(self, step: int, spans: list[JSON]) -> None:
        """A step's spans."""
        self.write({"step": step, "run": self._run, "spans": spans})
