"""Long tool trajectories as a run of their own: ``openk2 synthesize RECIPE``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from openk2.data.export.write import write_twin
from openk2.jobs.funnel import Funnel
from openk2.recipe import files
from openk2.recipe.check import check
from openk2.recipe.flags import override
from openk2.sandbox.enclosure import SandboxError, enclosure
from openk2.worlds.scenario import synthesize as scenarios
from openk2.worlds.scenario.synthesize import SynthesisConfig


def load(path: Path, flags: list[str]) -> SynthesisConfig:
    """A synthesis recipe with flags applied. Raises ValueError, FileNotFoundError: one line naming file or flag."""
    return override(check(SynthesisConfig, *files.read(path), str(path)), flags, prog=f"openk2 synthesize {path}")


def synthesize(config: SynthesisConfig, folder: Path) -> Funnel:
    """Write the trajectories, with progress, or go on where an earlier run stopped; print where records went.

    The dataset's card and its parquet files lie beside them in the end.
    """
    console = Console()
    kept = folder / scenarios.KEPT
    if kept.exists():
        console.print(f"going on in {folder}: {sum(1 for _ in kept.open('rb'))} trajectories are there")
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("tasks", total=config.num_tasks, told="")

        def show(now: scenarios.Progress) -> None:
            told = f"{now.kept} kept, {now.rejected} rejected, {now.per_second:.0f}/s"
            progress.update(task, completed=now.tasks, told=told)

        funnel = _writer(config)(config, folder, show)
    console.print(_table(funnel))
    console.print(f"trajectories: {kept}")
    console.print(write_twin(folder, config.name, config.license), soft_wrap=True)
    return funnel


def _writer(config: SynthesisConfig) -> Callable[[SynthesisConfig, Path, Callable[[scenarios.Progress], None]], Funnel]:
    """The scripted run, or the one that asks a chat endpoint. Raises ValueError where what it takes is missing."""
    if config.execution:
        try:
            enclosure()
        except SandboxError as error:
            raise ValueError(str(error)) from error
    if config.endpoint is None:
        return scenarios.synthesize
    try:
        from openk2.worlds.endpoint.synthesize import synthesize
    except ImportError as error:
        raise ValueError(str(error)) from error
    return synthesize


def _table(funnel: Funnel) -> Table:
    """Where records went: what each stage kept, and why it turned others away."""
    table = Table("stage", "kept", "rejected", "reasons", title="yield")
    for stage, row in funnel.to_json().items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in list(row["reasons"].items())[:4])
        table.add_row(stage, str(row["kept"]), str(row["rejected"]), reasons)
    return table
