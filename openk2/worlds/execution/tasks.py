"""The families and their tasks, each made from (family, split, seed, index) alone."""

from __future__ import annotations

from random import Random
from typing import Literal, get_args

from openk2.schema import Task
from openk2.worlds.execution import database, folder, python, repository

Family = Literal["python", "folder", "repository", "database"]
FAMILIES: tuple[Family, ...] = get_args(Family)
_WRITERS = {"python": python.write, "folder": folder.write, "repository": repository.write, "database": database.write}


def make_task(family: Family, split: str, index: int, *, seed: int = 0) -> Task:
    """Task ``index`` of a split. Not every one is worth keeping: see the gates."""
    rng = Random(f"execution/{family}/{split}/{seed}/{index}")
    return _WRITERS[family](rng).to_task(family, split, index)
