"""Across ranks: buckets travel by broadcast, gloo or NCCL.

A bucket that is one contiguous stretch of a tensor is sent from there, and received there, without a staging buffer.
"""

from __future__ import annotations

import json

import torch
import torch.distributed as dist
from torch import Tensor

from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.copies import Tensors, checksum, damaged
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.plan import Bucket, Plan
from openk2.engine.weights.rounds import Call
from openk2.engine.weights.stages import NUM_BUFFERS, Stages, run_stages
from openk2.engine.weights.timeline import Timeline


class Broadcast:
    """One rank's end of the broadcasts. The process group is kept until the members change or an update fails."""

    def __init__(self, meeting: Meeting, config: WeightsConfig) -> None:
        self._meeting = meeting
        self._config = config
        self._device = (
            torch.device("cuda", torch.cuda.current_device()) if config.via == "nccl" else torch.device("cpu")
        )
        self._group: dist.ProcessGroup | None = None
        self._generation = -1
        self._buffers: list[Tensor] = []

    def move(self, plan: Plan, call: Call, member: str, sources: Tensors, targets: Tensors, timeline: Timeline) -> None:
        """Our part of an update: send what we hold, keep what we want.

        Raises RuntimeError when a peer is gone or silent for the time limit, ValueError for a damaged bucket.
        """
        if len(call.members) == call.trainers:
            return
        rank, buckets = call.rank(member), plan.buckets[: call.rehearsed]
        group = self._group_of(call, rank)
        self._make_buffers(max(bucket.nbytes for bucket in buckets))
        sent: dict[int, int] = {}
        received: dict[int, int] = {}

        def home(bucket: Bucket) -> Tensor | None:
            return (sources if bucket.source == rank else targets).bytes_of(bucket, self._device)

        def copy(bucket: Bucket, buffer: Tensor) -> None:
            in_place = home(bucket) is not None
            sent[bucket.number] = checksum(bucket, buffer) if in_place else sources.fill(bucket, buffer)

        def broadcast(bucket: Bucket, buffer: Tensor) -> dist.Work:
            options = dist.BroadcastOptions()
            options.rootRank, options.rootTensor = bucket.source, 0
            return group.broadcast([buffer], options)

        def reload(bucket: Bucket, buffer: Tensor) -> None:
            if targets.want(bucket):
                in_place = bucket.source != rank and home(bucket) is not None
                received[bucket.number] = checksum(bucket, buffer) if in_place else targets.load(bucket, buffer)

        try:
            stages = Stages(home, copy, broadcast, reload, timeline, self._device)
            run_stages(call.form, buckets, rank, stages, self._buffers)
        except Exception:
            # Peers that wait for our next bucket see the connection close at once.
            self.leave()
            raise
        self._compare(call, buckets, rank, sent, received)

    def claim(self, plan: Plan) -> None:
        """Take what must be there before the first update: nothing."""

    def announce(self, call: Call) -> None:
        """Tell those who come late of the new version: they wait for the trainer's next ``publish``."""

    def tidy(self, plan: Plan, call: Call) -> None:
        """Forget what the update left in the meeting."""
        self._meeting.forget(f"sums/{call.round}/{rank}" for rank in range(call.trainers))

    def catch_up(self, plan: Plan, targets: Tensors, taken: Call | None) -> Call | None:
        """Read the current version alone: not by broadcast."""
        return None

    def leave(self) -> None:
        """Close the process group; the next update opens another."""
        if self._group is not None:
            self._group.abort()
        self._group, self._generation = None, -1

    def _compare(
        self, call: Call, buckets: tuple[Bucket, ...], rank: int, sent: dict[int, int], received: dict[int, int]
    ) -> None:
        """The checksums of what came against those of what went."""
        if sent:
            self._meeting.post(f"sums/{call.round}/{rank}", json.dumps(sent))
        told: dict[str, int] = {}
        for source in sorted({bucket.source for bucket in buckets if bucket.number in received}):
            missing = f"the checksums of {call.members[source]} did not come"
            told |= json.loads(self._meeting.read(f"sums/{call.round}/{source}", self._config.time_limit, missing))
        for bucket in buckets:
            if bucket.number in received and received[bucket.number] != told[str(bucket.number)]:
                raise damaged(bucket)

    def _group_of(self, call: Call, rank: int) -> dist.ProcessGroup:
        if self._group is None or self._generation != call.generation:
            self.leave()
            name, limit = f"group/{call.generation}", self._config.time_limit
            self._group = self._meeting.group(name, rank, len(call.members), self._config.via, limit)
            self._generation = call.generation
        return self._group

    def _make_buffers(self, largest: int) -> None:
        if not self._buffers or self._buffers[0].numel() < largest:
            self._buffers = [torch.empty(largest, dtype=torch.uint8, device=self._device) for _ in range(NUM_BUFFERS)]
