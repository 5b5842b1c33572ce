"""How a bucket's three stages overlap with those of its neighbours: host-to-device, broadcast, reload (K2 §3.3).

On a CPU "host-to-device" is the copy into the staging buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from openk2.engine.weights.config import Form
from openk2.engine.weights.plan import Bucket
from openk2.engine.weights.timeline import Timeline

Stage = Callable[[Bucket, Tensor], None]


@dataclass(frozen=True, slots=True)
class Stages:
    """What one rank does with a bucket; ``copy`` and ``reload`` do nothing where there is nothing to do."""

    copy: Stage
    broadcast: Stage
    reload: Stage
    timeline: Timeline
    device: torch.device

    def run(self, name: str, bucket: Bucket, buffer: Tensor) -> None:
        """One stage of one bucket, finished when this returns, recorded."""
        stage: Stage = {"copy": self.copy, "broadcast": self.broadcast, "reload": self.reload}[name]
        with self.timeline.span(name, bucket.number), _own_stream(self.device):
            stage(bucket, buffer)


def run_stages(form: Form, buckets: Sequence[Bucket], rank: int, stages: Stages, buffers: Sequence[Tensor]) -> None:
    """Move all buckets through rank ``rank``.

    Args:
        form: ``pipeline`` copies bucket i+1, broadcasts i and reloads i-1 at once. ``two-stage`` lets all sources copy
            their next bucket together, then broadcasts one after the other while the one before is reloaded: the
            copies of all links at once instead of one in turn, and nothing else beside them.
        buckets: in the order of travel.
        rank: ours in the group; buckets of which we are the source are copied here.
        stages: what is done.
        buffers: three of at least the largest bucket's bytes.
    """
    with ThreadPoolExecutor(1, "copy") as copier, ThreadPoolExecutor(1, "reload") as loader:
        move = _pipeline if form == "pipeline" else _two_stage
        move(buckets, rank, stages, buffers, copier, loader)


def _pipeline(
    buckets: Sequence[Bucket],
    rank: int,
    stages: Stages,
    buffers: Sequence[Tensor],
    copier: ThreadPoolExecutor,
    loader: ThreadPoolExecutor,
) -> None:
    reloads: list[Future[None]] = []

    def copy(number: int) -> None:
        if number >= len(buffers):
            reloads[number - len(buffers)].result()
        if buckets[number].source == rank:
            stages.run("copy", buckets[number], _cut(buffers[number % len(buffers)], buckets[number]))

    copied = copier.submit(copy, 0)
    for number, bucket in enumerate(buckets):
        copied.result()
        if number + 1 < len(buckets):
            copied = copier.submit(copy, number + 1)
        buffer = _cut(buffers[number % len(buffers)], bucket)
        stages.run("broadcast", bucket, buffer)
        reloads.append(loader.submit(stages.run, "reload", bucket, buffer))
    for reload in reloads:
        reload.result()


def _two_stage(
    buckets: Sequence[Bucket],
    rank: int,
    stages: Stages,
    buffers: Sequence[Tensor],
    _: ThreadPoolExecutor,
    loader: ThreadPoolExecutor,
) -> None:
    own, *pair = buffers
    reloads: list[Future[None]] = []
    for wave in _waves(buckets):
        for bucket in wave:
            if bucket.source == rank:
                # The last wave's own bucket may still be on its way into our tensors.
                for reload in reloads:
                    reload.result()
                stages.run("copy", bucket, _cut(own, bucket))
        for bucket in wave:
            if len(reloads) >= len(pair):
                reloads[-len(pair)].result()
            buffer = _cut(own if bucket.source == rank else pair[len(reloads) % len(pair)], bucket)
            stages.run("broadcast", bucket, buffer)
            reloads.append(loader.submit(stages.run, "reload", bucket, buffer))
    for reload in reloads:
        reload.result()


def _waves(buckets: Sequence[Bucket]) -> Iterator[list[Bucket]]:
    """The first bucket of every source, the second of every source, …"""
    wave: list[Bucket] = []
    for bucket in buckets:
        if any(earlier.source == bucket.source for earlier in wave):
            yield wave
            wave = []
        wave.append(bucket)
    if wave:
        yield wave


def _cut(buffer: Tensor, bucket: Bucket) -> Tensor:
    return buffer[: bucket.nbytes]


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """Threads of a GPU queue on a stream each, or their stages would wait for one another; ended when left."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
