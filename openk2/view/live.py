"""What a person sees while a stage runs: a panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SECONDS_BETWEEN_DRAWS = 0.25
SECONDS_BETWEEN_LINES = 10.0
BLOCKS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 40

FIGURES: tuple[tuple[str, str, str], ...] = (
    ("loss", "loss", ".4f"),
    ("reward", "reward", ".3f"),
    ("pass_rate", "pass rate", ".3f"),
    ("lr", "lr", ".2e"),
    ("tokens_per_second", "tokens/s", ",.0f"),
    ("max_logit", "max logit", ".1f"),
    ("clipped_heads", "clipped heads", ".0f"),
    ("expert_load", "expert load", ".2f"),
    ("response_tokens", "response tokens", ".0f"),
    ("kl", "kl", ".4f"),
    ("critic_accuracy", "critic accuracy", ".3f"),
    ("idle_share", "idle", ".1%"),
)
"""Metric, its label, its format: shown in this order where a stage has them."""


class LiveView:
    """Follows one training stage.

    ``with LiveView("pretrain", num_steps=900, budget_seconds=110) as view: view.update(metrics)``.
    `update` may be called at every step: it draws at most four times a second (a line every ten
    seconds where stdout is no terminal) and otherwise only remembers. The time left is the smaller
    of what the steps done foretell and what the budget still allows (a resumed stage passes what is
    left of its budget).
    """

    def __init__(
        self,
        stage: str,
        *,
        num_steps: int | None = None,
        budget_seconds: float | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage, self._num_steps, self._budget = stage, num_steps, budget_seconds
        self._console = console or Console()
        self._clock = clock
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._pause = SECONDS_BETWEEN_DRAWS if self._live else SECONDS_BETWEEN_LINES
        self._metrics: Mapping[str, float] = {}
        self._losses: deque[float] = deque(maxlen=4096)
        self._begun = self._drawn = -math.inf
        self._first_step: float | None = None
        self._shown_step: float | None = None

    def __enter__(self) -> Self:
        self._begun = self._clock()
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._metrics and self._metrics.get("step") != self._shown_step:
            self._draw()
        if self._live:
            self._live.stop()

    def update(self, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step (the keys of ``metrics.jsonl``), and draw when it is time."""
        self._metrics = metrics
        if self._first_step is None:
            self._first_step = metrics["step"]
        if (loss := metrics.get("loss")) is not None:
            self._losses.append(loss)
        if self._clock() - self._drawn >= self._pause:
            self._draw()

    def seconds_left(self) -> float | None:
        """Until the last step or the end of the budget, whichever comes first; None when neither is known."""
        elapsed = self._clock() - self._begun
        bounds = [] if self._budget is None else [max(0.0, self._budget - elapsed)]
        if self._num_steps is not None and self._first_step is not None:
            done = self._metrics["step"] - self._first_step + 1
            bounds.append(max(0.0, self._num_steps - self._metrics["step"]) * elapsed / done)
        return min(bounds, default=None)

    def _draw(self) -> None:
        self._drawn = self._clock()
        self._shown_step = self._metrics.get("step")
        if self._live:
            self._live.update(self._panel(), refresh=True)
        else:
            self._console.print(self._line(), highlight=False, markup=False, soft_wrap=True)

    def _figures(self) -> list[tuple[str, str]]:
        found = []
        for key, label, form in FIGURES:
            value = self._metrics.get(key)
            if value is not None:
                text = format(value, form)
                if key == "clipped_heads" and "num_heads" in self._metrics:
                    text += f"/{self._metrics['num_heads']:.0f}"
                found.append((label, text))
        return found

    def _step(self) -> str:
        step = f"{self._metrics['step']:.0f}"
        return f"step {step}/{self._num_steps}" if self._num_steps else f"step {step}"

    def _left(self) -> str:
        left = self.seconds_left()
        return "" if left is None else f"{clock_time(left)} left"

    def _line(self) -> str:
        figures = [f"{label} {text}" for label, text in self._figures()]
        return "  ".join(part for part in (self._stage, self._step(), *figures, self._left()) if part)

    def _panel(self) -> Panel:
        grid = Table.grid(padding=(0, 3), expand=False)
        figures = self._figures()
        for start in range(0, len(figures), 4):
            grid.add_row(*(Text.assemble((f"{label} ", "dim"), (text, "bold")) for label, text in figures[start:][:4]))
        parts: list[Table | Text] = [grid]
        if len(self._losses) > 1:
            parts.append(Text.assemble(("loss ", "dim"), (sparkline(list(self._losses), CURVE_WIDTH), "cyan")))
        elapsed = self._clock() - self._begun
        budget = f" of {clock_time(self._budget)}" if self._budget else ""
        status = Text(f"{self._step()}   {clock_time(elapsed)}{budget}   {self._left()}", style="dim")
        total, done = (self._num_steps, self._metrics["step"]) if self._num_steps else (self._budget, elapsed)
        if total:
            foot = Table.grid(padding=(0, 2))
            foot.add_row(ProgressBar(total=total, completed=min(done, total), width=36), status)
            parts.append(foot)
        else:
            parts.append(status)
        return Panel(Group(*parts), title=Text(self._stage, style="bold"), title_align="left", border_style="dim")


def Progress(console: Console | None = None) -> RichProgress:
    """A bar for counted work, with its rate and the time left: a `rich.progress.Progress`.

    ``with Progress() as bar: task = bar.add_task("evaluate rl", total=512); bar.advance(task)``.
    """
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )


def sparkline(values: list[float], width: int) -> str:
    """The course of finite values in ``width`` block characters or fewer, each the mean of its stretch."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(width, len(finite))
    edges = [i * len(finite) // count for i in range(count + 1)]
    means = [math.fsum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((mean - low) * scale)] for mean in means)


def clock_time(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class _Rate(ProgressColumn):
    """How many are done a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "–/s", style="dim")
