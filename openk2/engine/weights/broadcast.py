"""Across ranks: buckets travel by broadcast, gloo or NCCL."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from openk2.engine.weights.copies import Tensors, check_seal, seal
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.plan import Bucket, Plan
from openk2.engine.weights.rounds import Call
from openk2.engine.weights.stages import Stages, run_stages
from openk2.engine.weights.timeline import Timeline

NUM_BUFFERS = 3


class Broadcast:
    """One rank's end of the broadcasts. The process group is kept until the members change or an update fails."""

    def __init__(self, meeting: Meeting, device: torch.device, time_limit: float) -> None:
        self._meeting = meeting
        self._device = device
        self._limit = time_limit
        self._group: dist.ProcessGroup | None = None
        self._generation = -1
        self._buffers: list[Tensor] = []

    def move(self, plan: Plan, call: Call, member: str, sources: Tensors, targets: Tensors, timeline: Timeline) -> None:
        """Our part of an update: send what we hold, keep what we want.

        Raises RuntimeError when a peer is gone or silent for the time limit, ValueError for a damaged bucket.
        """
        if len(call.members) == call.trainers:
            return
        rank = call.rank(member)
        group = self._group_of(call, rank)
        self._make_buffers(plan.largest)

        def copy(bucket: Bucket, buffer: Tensor) -> None:
            sources.fill(bucket, buffer)
            seal(buffer, call.version)

        def broadcast(bucket: Bucket, buffer: Tensor) -> None:
            options = dist.BroadcastOptions()
            options.rootRank, options.rootTensor = bucket.source, 0
            group.broadcast([buffer], options).wait()

        def reload(bucket: Bucket, buffer: Tensor) -> None:
            if targets.want(bucket):
                check_seal(bucket, buffer, call.version)
                targets.load(bucket, buffer)

        stages = Stages(copy, broadcast, reload, timeline, self._device)
        try:
            run_stages(call.form, plan.buckets[: call.rehearsed], rank, stages, self._buffers)
        except Exception:
            # Peers that wait for our next bucket see the connection close at once.
            self.leave()
            raise

    def claim(self, plan: Plan) -> None:
        """Take what must be there before the first update: nothing."""

    def announce(self, call: Call) -> None:
        """Tell those who come late of the new version: they wait for the trainer's next ``publish``."""

    def tidy(self, plan: Plan, call: Call) -> None:
        """Forget what the update left in the meeting: nothing."""

    def catch_up(self, plan: Plan, targets: Tensors, version: int | None) -> int | None:
        """Read the current version alone: not by broadcast."""
        return None

    def leave(self) -> None:
        """Close the process group; the next update opens another."""
        if self._group is not None:
            self._group.abort()
        self._group, self._generation = None, -1

    def _group_of(self, call: Call, rank: int) -> dist.ProcessGroup:
        if self._group is None or self._generation != call.generation:
            self.leave()
            backend = "nccl" if self._device.type == "cuda" else "gloo"
            name = f"group/{call.generation}"
            self._group = self._meeting.group(name, rank, len(call.members), backend, self._limit)
            self._generation = call.generation
        return self._group

    def _make_buffers(self, largest: int) -> None:
        if not self._buffers or self._buffers[0].numel() < largest:
            self._buffers = [torch.empty(largest, dtype=torch.uint8, device=self._device) for _ in range(NUM_BUFFERS)]
