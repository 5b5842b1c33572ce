"""A run's folder ``rl``, read while the run goes on and after it: metrics, time line and traces."""

from __future__ import annotations

import time
from pathlib import Path

from openk2.view.rl.metrics import Metrics, MetricsFile
from openk2.view.rl.rollouts import Rollouts
from openk2.view.rl.spans import TimeLine


class Learning:
    """What reinforcement learning has left so far. Nothing need be there yet.

    `poll` reads what is new; the rest shows what was there at the last poll.
    """

    def __init__(self, run_dir: Path) -> None:
        self.name = run_dir.resolve().name
        self.folder = run_dir / "rl"
        self.time_line = TimeLine(self.folder / "timeline.jsonl")
        self.rollouts = Rollouts(self.folder / "rollouts")
        self._metrics_file = MetricsFile(self.folder / "metrics.jsonl")

    def poll(self) -> bool:
        """Read what has been written since. True when anything has."""
        changed = [part.poll() for part in (self._metrics_file, self.time_line, self.rollouts)]
        return any(changed)

    @property
    def metrics(self) -> Metrics:
        """By step."""
        return self._metrics_file.metrics

    @property
    def finished(self) -> bool:
        """Whether the stage has ended."""
        return (self.folder / "done.json").is_file()

    @property
    def num_damaged(self) -> int:
        """Lines that could not be read."""
        return self._metrics_file.num_damaged + self.time_line.num_damaged + self.rollouts.num_damaged

    @property
    def has_insides(self) -> bool:
        """Whether there is more than the few metrics of a run that tells no families, time line or traces."""
        return bool(self.metrics.members("reward") or self.time_line.until(None, 1) or self.rollouts.steps)

    def seconds_since(self) -> float | None:
        """Since the newest step was written; None before the first."""
        try:
            return max(0.0, time.time() - (self.folder / "metrics.jsonl").stat().st_mtime)
        except FileNotFoundError:
            return None
