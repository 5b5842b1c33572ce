"""``metrics.jsonl`` as columns: ten thousand steps of a hundred numbers take 8 MB."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openk2.schema import JSON
from openk2.view.rl.tail import Tail

Floats = npt.NDArray[np.float64]


class Metrics:
    """Every number of every step; NaN where a step has none.

    A row takes back the rows of its step and of later ones: a run that goes on from a checkpoint does them again.
    """

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {"step": array("d")}

    def __len__(self) -> int:
        return len(self._columns["step"])

    @property
    def names(self) -> list[str]:
        """Of every metric that was ever there."""
        return [name for name in self._columns if name != "step"]

    @property
    def steps(self) -> Floats:
        """Rising."""
        return np.array(self._columns["step"])

    def __getitem__(self, name: str) -> Floats:
        """A value for each step; all NaN for a metric nobody wrote."""
        column = self._columns.get(name)
        return np.full(len(self), np.nan) if column is None else np.array(column)

    def last(self, name: str) -> float | None:
        """The newest value; None where there is none."""
        for value in reversed(self._columns.get(name, ())):
            if math.isfinite(value):
                return value
        return None

    def members(self, family: str) -> list[str]:
        """What follows the slash in the metrics of a family (``reward``: its tasks' families), sorted."""
        return sorted(name.removeprefix(f"{family}/") for name in self._columns if name.startswith(f"{family}/"))

    def add(self, row: JSON) -> bool:
        """One step's numbers; False for a row without a step. What is no number is left out."""
        step = finite(row.get("step"))
        if step is None:
            return False
        known = self._columns
        while len(self) and known["step"][-1] >= step:
            for column in known.values():
                column.pop()
        for name, value in row.items():
            if name not in known and finite(value) is not None:
                known[name] = array("d", [math.nan]) * len(self)
        for name, column in known.items():
            value = finite(row.get(name))
            column.append(math.nan if value is None else value)
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._columns = {"step": array("d")}


class MetricsFile:
    """A ``metrics.jsonl`` being followed."""

    def __init__(self, path: Path) -> None:
        self.metrics = Metrics()
        self.num_damaged = 0
        self._tail = Tail(path)
        self._without_step = 0

    def poll(self) -> bool:
        """Read what is new. True when anything has changed."""
        changed = False
        for line in self._tail.lines():
            changed = True
            if line is None:
                self.metrics.clear()
                self._without_step = 0
            else:
                self._without_step += not self.metrics.add(line.record)
        self.num_damaged = self._tail.num_damaged + self._without_step
        return changed


def finite(value: object) -> float | None:
    """A number of a file as a float; None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
