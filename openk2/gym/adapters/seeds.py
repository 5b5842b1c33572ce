"""Tasks that are no more than a seed of an environment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, islice

from openk2.gym.adapters.config import SeededConfig
from openk2.gym.single_turn import split_of
from openk2.schema import Task


def seed_tasks(family: str, kind: str, split: str, config: SeededConfig) -> Sequence[Task]:
    """The first seeds whose hash puts them into "train" or "heldout". Raises ValueError for another split."""
    counts = {"train": config.num_train, "heldout": config.num_heldout}
    if split not in counts:
        raise ValueError(f'no split "{split}" in {family}: choose "train" or "heldout"')
    seeds = islice((seed for seed in count() if split_of(f"{kind} {seed}") == split), counts[split])
    return [Task(f"{family}-{kind}-{seed}", family, kind, split, {"seed": seed}) for seed in seeds]
