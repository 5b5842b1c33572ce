"""Metrics of a stage: one JSON line a step, and the same to TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from openk2.jobs import jsonl


class MetricsLog:
    """Append-only ``metrics.jsonl`` of a stage. Opening it at step S drops lines after S: they will be redone."""

    def __init__(self, folder: Path, *, from_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        kept = [row for row in read_metrics(self.path) if row["step"] <= from_step]
        jsonl.write(self.path, kept)
        self._file = self.path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1)

    def write(self, row: Mapping[str, float]) -> None:
        """One step's numbers; ``step`` is among them."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for key, value in row.items():
            if key != "step":
                self._board.add_scalar(key, value, int(row["step"]))

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All whole lines; a last line torn by a kill is left out. Raises ValueError naming a damaged line before it."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}:{number} is damaged: {error}; remove the line to go on") from error
    return rows


def last_metrics(path: Path) -> dict[str, float]:
    """The last step's numbers. Raises ValueError when there are none."""
    rows = read_metrics(path)
    if not rows:
        raise ValueError(f"{path} is missing or empty: it should hold a line for every step")
    return rows[-1]
