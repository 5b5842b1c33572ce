"""A trainer's rank 0 in the test's own process, everybody else in others."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.trainer import Trainer

from .fleet import Child, config, full, publish, replica, trainer, trainer_parts


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder in shared memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="openk2-test-") as folder:
        yield Path(folder)


class World:
    """Trainer rank 0 here, ``ranks - 1`` others and the replicas in processes."""

    def __init__(self, folder: Path, via: str, ranks: int = 1, **changes) -> None:
        self.meeting = Meeting.host()
        self.children: list[Child] = []
        self.ranks = ranks
        self.trainers = [self.start(trainer, rank, ranks) for rank in range(1, ranks)]
        self.parts = trainer_parts(full(0), 0, ranks)
        self.rank0 = Trainer(self.parts, self.meeting, config(folder, via, **changes), ranks=ranks)
        for child in self.trainers:
            child.hear()

    def start(self, role, *args) -> Child:
        child = Child(role, self.meeting.address, *args)
        self.children.append(child)
        return child

    def replica(self, name: str, rank: int = 0, ranks: int = 1) -> Child:
        """A replica that has joined."""
        child = self.start(replica, name, rank, ranks)
        child.joined_at = child.hear()
        return child

    def publish(self, version: int) -> None:
        """All trainer ranks publish."""
        for child in self.trainers:
            child.tell("publish", version)
        publish(self.rank0, self.parts, version, 0, self.ranks)

    def update(self, version: int, replicas: list[Child]) -> None:
        """An update that succeeds everywhere."""
        for child in replicas:
            child.tell("update", 10.0)
        self.publish(version)
        assert [child.hear() for child in [*self.trainers, *replicas]] == [version] * (self.ranks - 1 + len(replicas))

    def slot(self, number: int) -> Path:
        """The file of a shared segment."""
        (file,) = self.rank0.config.folder.glob(f"*-slot-{number}")
        return file

    def close(self) -> None:
        for child in self.children:
            child.close()
        self.rank0.close()


@pytest.fixture
def world(shared_folder: Path):
    """Makes a ``World`` and ends it."""
    made: list[World] = []

    def make(via: str, ranks: int = 1, **changes) -> World:
        made.append(World(shared_folder, via, ranks, **changes))
        return made[-1]

    yield make
    for own in made:
        own.close()
