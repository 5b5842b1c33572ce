"""Weight updates on CPU against the ceiling of their transport, measured in the same run.

One trainer and one replica process. Through shared memory: against two torch copies of the same bytes (into shared
memory, out of it), one after the other. By broadcast, gloo on loopback: against a broadcast of one tensor of all bytes
between two processes. Ceilings and updates alternate; medians count.

    python -m bench.weights --out results/weights.json
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from openk2.engine.weights.config import FORMS, Form, WeightsConfig
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.parts import whole
from openk2.engine.weights.replica import Replica
from openk2.engine.weights.trainer import Trainer
from openk2.jobs.provenance import provenance

PATIENCE = 120.0
MATRIX = (4096, 2048)  # 16 MiB of bfloat16


def weights(megabytes: int) -> dict[str, Tensor]:
    """As many matrices as make so many MiB."""
    return {f"layer.{i}": torch.randn(MATRIX).bfloat16() for i in range(megabytes // 16)}


class Other:
    """The second process, which does the other half of what is measured."""

    def __init__(self, half: Callable[..., Callable[[], Any]], *args: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, half, *args), daemon=True)
        self._process.start()
        self._hear()

    def beside(self, half: Callable[[], object]) -> tuple[float, Any]:
        """Seconds until both halves are done, and what the other says."""
        self._ours.send("go")
        began = time.perf_counter()
        half()
        told = self._hear()
        return time.perf_counter() - began, told

    def close(self) -> None:
        self._process.kill()
        self._process.join()

    def _hear(self) -> Any:
        if not self._ours.poll(PATIENCE):
            raise TimeoutError(f"the other process said nothing within {PATIENCE:g} s")
        return self._ours.recv()


def _serve(connection: Connection, half: Callable[..., Callable[[], Any]], *args: object) -> None:
    torch.set_num_threads(1)
    do = half(*args)
    connection.send("ready")
    while True:
        connection.recv()
        connection.send(do())


def receiving(address: str, megabytes: int) -> Callable[[], str]:
    """A replica of the same layout as the trainer."""
    own = Replica(
        "bench", whole({name: torch.zeros_like(t) for name, t in weights(megabytes).items()}), Meeting.join(address)
    )

    def update() -> str:
        own.update(PATIENCE)
        return own.timeline.text()

    return update


def broadcasting(address: str, megabytes: int, rank: int) -> Callable[[], None]:
    """A broadcast of one tensor."""
    group = Meeting.join(address).group("ceiling", rank, 2, "gloo", PATIENCE)
    tensor = torch.ones(megabytes * 2**20, dtype=torch.uint8)
    options = dist.BroadcastOptions()
    options.rootRank, options.rootTensor = 0, 0
    return lambda: group.broadcast([tensor], options).wait()


@contextmanager
def two_copies(folder: Path, tensors: dict[str, Tensor]) -> Iterator[Callable[[], float]]:
    """Copy all into shared memory and out again."""
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    start = torch.cat([tensor.flatten() for tensor in tensors.values()]).view(torch.uint8)
    end = torch.zeros_like(start)
    with (folder / "ceiling").open("w+b") as file:
        file.truncate(nbytes)
        between = torch.frombuffer(mmap.mmap(file.fileno(), nbytes), dtype=torch.uint8)

    def seconds() -> float:
        began = time.perf_counter()
        between.copy_(start)
        end.copy_(between)
        return time.perf_counter() - began

    yield seconds


class Update:
    """A trainer here, a replica there."""

    def __init__(self, folder: Path, megabytes: int, config: WeightsConfig) -> None:
        meeting = Meeting.host()
        self._trainer = Trainer(whole(weights(megabytes)), meeting, config.model_copy(update={"folder": folder}))
        self._other = Other(receiving, meeting.address, megabytes)
        self._version = 0
        self.timelines: dict[str, str] = {}

    def seconds(self) -> float:
        self._version += 1
        seconds, told = self._other.beside(lambda: self._trainer.publish(self._version))
        self.timelines = {"trainer": self._trainer.timeline.text(), "replica": told}
        return seconds

    def close(self) -> None:
        self._other.close()
        self._trainer.close()


def measure(megabytes: int, bucket_bytes: int, rounds: int) -> dict:
    """Alternating rounds; the first is to warm up."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, two_copies(Path(name), weights(megabytes)) as copies:
        folder, meeting = Path(name), Meeting.host()
        other = Other(broadcasting, meeting.address, megabytes, 1) if False else None
        updates = {"shared": Update(folder, megabytes, WeightsConfig(bucket_bytes=bucket_bytes))}
        for form in FORMS:
            updates[form] = Update(folder, megabytes, WeightsConfig(via="gloo", form=form, bucket_bytes=bucket_bytes))
        other = Other(_late_broadcasting, meeting.address, megabytes)
        here: list[Callable[[], object]] = []

        def bare() -> float:
            if not here:
                seconds, _ = other.beside(lambda: here.append(broadcasting(meeting.address, megabytes, 0)))
            return other.beside(here[0])[0]

        runs: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            told = {"two copies": copies(), "bare broadcast": bare()} | {n: u.seconds() for n, u in updates.items()}
            for key, seconds in told.items() if turn else ():
                runs.setdefault(key, []).append(seconds)
        timelines = {name: update.timelines for name, update in updates.items()}
        for own in (*updates.values(), other):
            own.close()
    return {"seconds": runs, "timelines": timelines}


def _late_broadcasting(address: str, megabytes: int) -> Callable[[], None]:
    """The group forms at the first call: both sides must come at once."""
    made: list[Callable[[], None]] = []

    def half() -> None:
        if not made:
            made.append(broadcasting(address, megabytes, 1))
        else:
            made[0]()

    return half
