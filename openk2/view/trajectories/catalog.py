"""A few columns of every trajectory, kept in memory: filtered, sorted and counted without opening a record."""

from __future__ import annotations

import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from openk2.schema import JSON
from openk2.view.trajectories.record import Trajectory
from openk2.view.trajectories.sources import Source
from openk2.view.trajectories.story import words

Numbers = npt.NDArray[np.int64]  # positions of trajectories: files in order, records as they lie in them
SINGLE = ("split", "kind", "outcome", "stage", "reason")  # a trajectory has one of each, or none
SEVERAL = ("tag", "tool")
NUM_CHOICES = 500  # of a facet, the most frequent first
REQUEST_CHARS = 120
SEARCH_SECONDS = 30.0
HISTOGRAM_BARS = 13  # the last one counts everything beyond


class Filters(BaseModel):
    """Which trajectories, and in what order. What is None or empty does not filter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str | None = None
    kind: str | None = None
    tag: str | None = None
    tool: str | None = None
    outcome: str | None = None
    stage: str | None = None
    reason: str | None = None
    min_calls: int | None = Field(None, ge=0)
    max_calls: int | None = Field(None, ge=0)
    fault: bool | None = None
    text: str = Field("", max_length=200)
    sort: Literal["file", "id", "kind", "calls", "score"] = "file"
    descending: bool = False


class Catalog:
    """The index of one or more files. Reading it once is what takes time: ``on_progress`` hears (done, all) units.

    Raises ValueError for a file that is no trajectory file, for one without any, and for an id that is there twice.
    """

    def __init__(self, sources: Sequence[Source], on_progress: Callable[[int, int], None] | None = None) -> None:
        self.sources = sources
        self.ids: list[str] = []
        self._requests: list[str] = []
        self._numbers: dict[str, int] = {}
        self._ends: list[int] = []
        self._read: dict[str, list[str]] = {name: [] for name in SINGLE}
        self._postings: dict[str, dict[str, array[int]]] = {name: {} for name in SEVERAL}
        calls, scores, faults = array("q"), array("d"), array("b")
        num_units, done = sum(source.size for source in sources), 0
        for source in sources:
            for trajectory, units in source.scan():
                self._add(trajectory, source)
                calls.append(trajectory.num_calls)
                scores.append(np.nan if trajectory.score is None else trajectory.score.total)
                faults.append(any(called.fault for called in trajectory.calls))
                done += units
                if on_progress is not None:
                    on_progress(done, num_units)
            self._ends.append(len(self.ids))
        if not self.ids:
            raise ValueError(f"{sources[0].path}: there is no trajectory in it")
        self._calls, self._scores, self._faults = np.array(calls), np.array(scores), np.array(faults, dtype=bool)
        self._columns = {name: np.array(values, dtype=object) for name, values in self._read.items()}
        self.matching = lru_cache(maxsize=32)(self._matching)

    def _add(self, trajectory: Trajectory, source: Source) -> None:
        number = len(self.ids)
        if self._numbers.setdefault(trajectory.id, number) != number:
            raise ValueError(f"{source.path}: the id {trajectory.id!r} is taken by an earlier record; ids are unique")
        self.ids.append(trajectory.id)
        self._requests.append(trajectory.request[:REQUEST_CHARS])
        for name in SINGLE:
            self._read[name].append(sys.intern(getattr(trajectory, name) or ""))
        self._post("tag", trajectory.tags, number)
        self._post("tool", trajectory.called, number)

    def _post(self, name: str, values: Iterable[str], number: int) -> None:
        for value in set(values):
            self._postings[name].setdefault(value, array("q")).append(number)

    def __len__(self) -> int:
        return len(self.ids)

    def number(self, trajectory_id: str) -> int:
        """Where a trajectory is. Raises KeyError for an unknown id."""
        return self._numbers[trajectory_id]

    def record(self, number: int) -> Trajectory:
        """The whole record, read now. Raises ValueError when its file has changed since."""
        source, place = self._place(number)
        record = source.record(place)
        if record.id != self.ids[number]:
            raise ValueError(f"{source.path} has changed since it was opened: start again")
        return record

    def _place(self, number: int) -> tuple[Source, int]:
        file = next(i for i, end in enumerate(self._ends) if number < end)
        return self.sources[file], number - (self._ends[file - 1] if file else 0)

    def row(self, number: int) -> JSON:
        """A line of a list."""
        score = float(self._scores[number])
        return {
            "id": self.ids[number],
            "request": self._requests[number],
            **{name: self._columns[name][number] for name in ("kind", "outcome", "stage")},
            "calls": int(self._calls[number]),
            "score": None if np.isnan(score) else score,
            "fault": bool(self._faults[number]),
        }

    def choices(self) -> dict[str, list[tuple[str, int]]]:
        """The values of each facet with their counts, the most frequent first."""
        counts = {name: Counter(filter(None, column)) for name, column in self._columns.items()}
        for name, found in self._postings.items():
            counts[name] = Counter({value: len(numbers) for value, numbers in found.items()})
        return {name: found.most_common(NUM_CHOICES) for name, found in counts.items()}

    def rejected(self) -> dict[str, JSON]:
        """The yield as far as the records tell: by stage, how many left there and why."""
        reasons: dict[str, Counter[str]] = {}
        for stage, reason in zip(self._columns["stage"], self._columns["reason"], strict=True):
            if stage:
                reasons.setdefault(stage, Counter())[reason or "no reason given"] += 1
        return {
            stage: {"rejected": found.total(), "reasons": dict(found.most_common())} for stage, found in reasons.items()
        }

    def summary(self, numbers: Numbers) -> JSON:
        """Counts over some trajectories: how many, how many of the judged ones passed, and how many calls they made."""
        scores, calls = self._scores[numbers], np.minimum(self._calls[numbers], HISTOGRAM_BARS - 1)
        return {
            "count": len(numbers),
            "judged": int(np.count_nonzero(~np.isnan(scores))),
            "passed": int(np.count_nonzero(scores >= 1)),
            "faults": int(np.count_nonzero(self._faults[numbers])),
            "calls": np.bincount(calls, minlength=HISTOGRAM_BARS).tolist(),
        }

    def _matching(self, filters: Filters) -> Numbers:
        """Positions of what passes, in order. Raises TimeoutError for a search that takes too long."""
        kept = np.ones(len(self), dtype=bool)
        for name in (*SINGLE, *SEVERAL):
            if (value := getattr(filters, name)) is not None:
                kept &= self._having(name, value)
        if filters.min_calls is not None:
            kept &= self._calls >= filters.min_calls
        if filters.max_calls is not None:
            kept &= self._calls <= filters.max_calls
        if filters.fault is not None:
            kept &= self._faults == filters.fault
        return self._ordered(self._search(np.flatnonzero(kept), filters.text.lower()), filters)

    def _having(self, name: str, value: str) -> npt.NDArray[np.bool_]:
        if name in SINGLE:
            return np.asarray(self._columns[name] == value, dtype=bool)
        members = np.zeros(len(self), dtype=bool)
        members[np.array(self._postings[name].get(value, ()), dtype=np.int64)] = True
        return members

    def _search(self, numbers: Numbers, sought: str) -> Numbers:
        """Those whose words hold ``sought``, in any case."""
        if not sought:
            return numbers
        deadline = time.monotonic() + SEARCH_SECONDS
        found = []
        for number in numbers.tolist():
            source, place = self._place(number)
            if source.may_hold(place, sought) and any(sought in said.lower() for said in words(self.record(number))):
                found.append(number)
            if time.monotonic() > deadline:
                raise TimeoutError(f"searching took longer than {SEARCH_SECONDS:g} s: set another filter first")
        return np.array(found, dtype=np.int64)

    def _ordered(self, numbers: Numbers, filters: Filters) -> Numbers:
        if filters.sort != "file":
            numbers = numbers[np.argsort(self._sort_keys(filters.sort)[numbers], kind="stable")]
        return numbers[::-1] if filters.descending else numbers

    def _sort_keys(self, sort: str) -> npt.NDArray[Any]:
        match sort:
            case "id":
                return np.array(self.ids, dtype=object)
            case "kind":
                return self._columns["kind"]
            case "calls":
                return self._calls
        return np.nan_to_num(self._scores, nan=-1.0)
