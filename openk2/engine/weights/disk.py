"""Starting from a checkpoint on disk that one rank reads for all (K2 §3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.copies import Tensors
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.parts import Part, whole
from openk2.engine.weights.plan import Plan
from openk2.engine.weights.replica import Replica
from openk2.engine.weights.rounds import FAILURES
from openk2.engine.weights.trainer import Trainer
from openk2.engine.weights.transport import refuse
from openk2.jobs.atomic import read_json, write_json
from openk2.model.shards import Shards

CHECKSUMS = "checksums.json"


def collective_read(
    folder: Path,
    targets: Sequence[Part],
    meeting: Meeting,
    config: WeightsConfig | None = None,
    *,
    rank: int,
    ranks: int,
    connect_seconds: float = 60.0,
) -> None:
    """Fill the targets of all ranks from safetensors that rank 0 alone opens: replicas, or a trainer's own ranks.

    Args:
        folder: a released checkpoint, or any folder of ``model.safetensors`` or indexed shards.
        targets: what this rank wants of which tensor in it.
        meeting: ``Meeting.host()`` at rank 0, ``Meeting.join(address)`` at the others; for this read alone.
        config: rank 0's holds for all; gloo unless told otherwise.
        rank: of this process.
        ranks: how many there are.
        connect_seconds: how long rank 0 waits for all to come.

    Raises:
        ValueError: a missing, truncated or damaged file, or targets that it does not hold; at every rank.
        UpdateError: a rank failed on the way.
        TimeoutError: a rank did not come.
    """
    if rank:
        own = Replica(f"rank {rank}", targets, meeting, connect_seconds=connect_seconds)
        try:
            own.update(connect_seconds)
        finally:
            own.close()
            meeting.post(f"done/{rank}", "")
        return
    try:
        parts = disk_parts(folder)
    except FAILURES as error:
        refuse(meeting, error)
        raise
    trainer = Trainer(parts, meeting, config or WeightsConfig(via="gloo"))
    try:
        trainer.plan.check(targets)
        trainer.await_replicas(ranks - 1, connect_seconds)
        trainer.publish(0)
        _copy_here(trainer.plan, Tensors(parts), Tensors(targets))
        # The meeting place is ours: it stays until all have read the decision.
        for other in range(1, ranks):
            meeting.read(f"done/{other}", connect_seconds, f"rank {other} did not end")
    finally:
        trainer.close()


def disk_parts(folder: Path) -> list[Part]:
    """Every tensor of a folder of safetensors, mapped and read when it is used.

    Where ``record_checksums`` left its file, all bytes are read and compared.

    Raises ValueError, in one line naming the file or tensor, for what is no safetensors, truncated or damaged.
    """
    shards = Shards(folder)
    tensors = {name: shards.read(name) for name in shards.entries}
    recorded = folder / CHECKSUMS
    if recorded.is_file():
        _check(tensors, shards, read_json(recorded))
    return whole(tensors)


def record_checksums(folder: Path) -> None:
    """Write ``checksums.json`` beside the safetensors of a folder: their own header says nothing of damaged bytes."""
    shards = Shards(folder)
    write_json(folder / CHECKSUMS, {name: _sum_of(shards.read(name)) for name in shards.entries})


def _check(tensors: dict[str, Tensor], shards: Shards, recorded: dict[str, int]) -> None:
    for name, tensor in tensors.items():
        if name in recorded and _sum_of(tensor) != recorded[name]:
            raise ValueError(f"{shards.entries[name].file}: {name} is damaged: its checksum differs")


def _sum_of(tensor: Tensor) -> int:
    # Byte by byte: files promise no alignment.
    return int(tensor.contiguous().flatten().view(torch.uint8).sum(dtype=torch.int64))


def _copy_here(plan: Plan, sources: Tensors, targets: Tensors) -> None:
    for bucket in plan.buckets:
        if targets.want(bucket):
            buffer = torch.empty(bucket.nbytes, dtype=torch.uint8)
            sources.fill(bucket, buffer)
            targets.load(bucket, buffer)
