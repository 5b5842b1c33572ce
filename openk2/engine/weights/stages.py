"""How a bucket's three stages overlap with those of its neighbours: host-to-device, broadcast, reload (K2 §3.3).

On a CPU "host-to-device" is the copy into the staging buffer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from openk2.engine.weights.config import Form
from openk2.engine.weights.plan import Bucket
from openk2.engine.weights.timeline import Timeline

# For buckets of our own: one in each stage. For those of others: two broadcasts under way, and a reload.
NUM_OWN = 3
NUM_BUFFERS = NUM_OWN + 3

Stage = Callable[[Bucket, Tensor], None]


@dataclass(slots=True)
class Stages:
    """What one rank does with a bucket; ``copy`` is called at its source alone.

    ``home`` gives a bucket's bytes that need no staging buffer; ``broadcast`` starts one.
    """

    home: Callable[[Bucket], Tensor | None]
    copy: Stage
    broadcast: Callable[[Bucket, Tensor], dist.Work]
    reload: Stage
    timeline: Timeline
    device: torch.device

    def run(self, name: Literal["copy", "reload"], bucket: Bucket, buffer: Tensor) -> None:
        """A stage of our own, finished when this returns."""
        stage = self.copy if name == "copy" else self.reload
        with self.timeline.span(name, bucket.number), _own_stream(self.device):
            stage(bucket, buffer)

    def place(self, bucket: Bucket, buffer: Tensor) -> Tensor:
        """Where the bucket's bytes are to lie."""
        home = self.home(bucket)
        return buffer[: bucket.nbytes] if home is None else home


def run_stages(form: Form, buckets: Sequence[Bucket], rank: int, stages: Stages, buffers: Sequence[Tensor]) -> None:
    """Move all buckets through rank ``rank``.

    Args:
        form: ``pipeline`` has every source copy ahead while others' buckets are broadcast and those before reloaded.
            ``two-stage`` has all sources copy their next bucket together and nothing else beside it; then each is
            broadcast while the one before is reloaded.
        buckets: in the order of travel.
        rank: ours in the group; buckets of which we are the source are copied here.
        stages: what is done.
        buffers: ``NUM_BUFFERS`` of at least the largest bucket's bytes.
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
    own, ring = buffers[:NUM_OWN], buffers[NUM_OWN:]
    mine = [bucket for bucket in buckets if bucket.source == rank]
    others = [bucket for bucket in buckets if bucket.source != rank]
    copies: list[Future[Tensor]] = []
    reloads: dict[int, Future[None]] = {}

    def copy(turn: int) -> Tensor:
        if turn >= NUM_OWN:
            reloads[mine[turn - NUM_OWN].number].result()
        place = stages.place(mine[turn], own[turn % NUM_OWN])
        stages.run("copy", mine[turn], place)
        return place

    def copy_next() -> None:
        if len(copies) < len(mine):
            copies.append(copier.submit(copy, len(copies)))

    def finish(sending: _Sending) -> None:
        sending.wait(stages)
        reloads[sending.bucket.number] = loader.submit(stages.run, "reload", sending.bucket, sending.place)
        if sending.bucket.source == rank:
            copy_next()

    for _ in own:
        copy_next()
    my_turn, their_turn = 0, 0
    sending: _Sending | None = None
    for bucket in buckets:
        if bucket.source == rank:
            place = copies[my_turn].result()
            my_turn += 1
        else:
            if their_turn >= len(ring):
                reloads[others[their_turn - len(ring)].number].result()
            place = stages.place(bucket, ring[their_turn % len(ring)])
            their_turn += 1
        started = _Sending(bucket, place, stages)
        # A broadcast is started before the one ahead of it has ended, or the wire would idle between them.
        if sending is not None:
            finish(sending)
        sending = started
    if sending is not None:
        finish(sending)
    for reload in reloads.values():
        reload.result()


def _two_stage(
    buckets: Sequence[Bucket],
    rank: int,
    stages: Stages,
    buffers: Sequence[Tensor],
    _: ThreadPoolExecutor,
    loader: ThreadPoolExecutor,
) -> None:
    own, *pair = buffers[:3]
    reloads: list[Future[None]] = []
    for wave in _waves(buckets):
        for bucket in wave:
            if bucket.source == rank:
                # The last wave's own bucket may still be on its way into our tensors.
                for reload in reloads:
                    reload.result()
                stages.run("copy", bucket, stages.place(bucket, own))
        for bucket in wave:
            if len(reloads) >= len(pair):
                reloads[-len(pair)].result()
            place = stages.place(bucket, own if bucket.source == rank else pair[len(reloads) % len(pair)])
            _Sending(bucket, place, stages).wait(stages)
            reloads.append(loader.submit(stages.run, "reload", bucket, place))
    for reload in reloads:
        reload.result()


class _Sending:
    """A broadcast under way."""

    def __init__(self, bucket: Bucket, place: Tensor, stages: Stages) -> None:
        self.bucket, self.place = bucket, place
        self._began = time.monotonic()
        self._work = stages.broadcast(bucket, place)

    def wait(self, stages: Stages) -> None:
        """Until the bytes are there."""
        self._work.wait()
        if stages.device.type == "cuda":
            torch.cuda.current_stream(stages.device).synchronize()
        stages.timeline.add("broadcast", self.bucket.number, self._began)


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
