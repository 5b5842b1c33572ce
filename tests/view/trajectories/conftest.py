from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openk2.view.trajectories.app import application
from openk2.view.trajectories.catalog import Catalog
from openk2.view.trajectories.sources import open_sources
from tests.view import running
from tests.view.trajectories.episodes import write_folder


class Made:
    """A folder of trajectories, and what went into it."""

    def __init__(self, folder: Path, num: int) -> None:
        self.folder = folder
        self.kept, self.rejected = write_folder(folder, num)
        self.all = [*self.kept, *self.rejected]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("trajectories") / "synthetic", 160)


@pytest.fixture(scope="session")
def catalog(made: Made) -> Catalog:
    return Catalog(open_sources(made.folder))


class Running(running.Running):
    """The page's server over a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(application(catalog, "synthetic", None))


@pytest.fixture(scope="session")
def server(catalog: Catalog) -> Iterator[Running]:
    with Running(catalog) as running:
        yield running
