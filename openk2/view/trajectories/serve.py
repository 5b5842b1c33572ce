"""Open trajectory files and show them: as a page on this machine, or one of them as text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from openk2.jobs.atomic import read_json
from openk2.view.live import Progress
from openk2.view.loopback import Server, address, listen
from openk2.view.trajectories.app import application
from openk2.view.trajectories.catalog import Catalog
from openk2.view.trajectories.sources import open_sources
from openk2.view.trajectories.text import render_trajectory


def open_catalog(path: Path) -> Catalog:
    """Index a file or folder, with a bar. Raises ValueError, naming file and line, for what is no trajectory."""
    sources = open_sources(path)
    with Progress(Console(stderr=True)) as bar:
        task = bar.add_task(f"index {path}, %", total=100)
        return Catalog(sources, lambda done, total: bar.update(task, completed=100 * done // total))


def show(path: Path, port: int, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM. ``port`` 0 takes any free one; ``say`` gets the address.

    Raises ValueError for a bad file or port, OSError for a port that cannot be had.
    """
    with contextlib.closing(listen(port)) as listening:
        catalog = open_catalog(path)
        app = application(catalog, path.name, _funnel(path))
        say(f"{len(catalog)} trajectories on {address(listening)}")
        Server(app).run([listening])


def show_text(path: Path, trajectory_id: str | None) -> None:
    """Print one trajectory: the named one, or the first. Raises ValueError for an unknown id."""
    catalog = open_catalog(path)
    try:
        number = 0 if trajectory_id is None else catalog.number(trajectory_id)
    except KeyError:
        raise ValueError(f"{path} holds no trajectory {trajectory_id!r}; its first is {catalog.ids[0]!r}") from None
    Console().print(render_trajectory(catalog.record(number)))


def _funnel(path: Path) -> dict[str, object] | None:
    beside = path / "funnel.json"
    return read_json(beside) if beside.is_file() else None
