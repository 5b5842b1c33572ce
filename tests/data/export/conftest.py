from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.view.trajectories.episodes import write_folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of trajectories that the worlds made."""
    folder = tmp_path_factory.mktemp("trajectories") / "synthetic"
    write_folder(folder, 120)
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def kept(source: Path) -> list[dict[str, Any]]:
    return rows(source / "trajectories.jsonl")


@pytest.fixture(scope="session")
def rejected(source: Path) -> list[dict[str, Any]]:
    return rows(source / "rejects.jsonl")
