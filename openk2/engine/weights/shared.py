"""Between processes of one machine: buckets lie in shared memory, written once, read by every replica.

Two segments take turns, so that the current version stays readable while the next is written: a replica that comes
late or back reads it alone. Both are claimed in full up front, so that a full memory is an error and no SIGBUS.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.copies import MODULUS, Tensors, damaged
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.plan import ALIGNMENT, Bucket, Plan, aligned
from openk2.engine.weights.rounds import Call
from openk2.engine.weights.timeline import Timeline

SLOTS = 2
READ_TRIES = 3
# Seconds between looks at a seal.
SHORTEST_LOOK, LONGEST_LOOK = 0.00005, 0.005


class Segment:
    """A file of shared memory with a place for every bucket."""

    def __init__(self, file: Path, plan: Plan) -> None:
        """Map a file that ``claim`` made. Raises OSError or ValueError when it is not there or not whole."""
        with file.open("r+b") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != segment_bytes(plan):
                raise ValueError(f"{file}: {size:,} bytes, the plan has {segment_bytes(plan):,}")
            # The tensor keeps the mapping, and the mapping the memory, whatever happens to the file.
            whole = torch.frombuffer(mmap.mmap(opened.fileno(), size), dtype=torch.uint8)
        self._places = whole.split([sealed_bytes(bucket) for bucket in plan.buckets])

    def place(self, bucket: Bucket) -> Tensor:
        """The bytes of a bucket."""
        return self._places[bucket.number][: bucket.nbytes]

    def seal(self, bucket: Bucket, checksum: int, call: Call) -> None:
        """Write checksum, version and last the round behind the bucket's bytes: now it can be read."""
        seal = self._seal(bucket)
        seal[:2] = torch.tensor([checksum, call.version % MODULUS], dtype=torch.uint64).view(torch.int64)
        seal[2] = call.round

    def wait(self, bucket: Bucket, call: Call, time_limit: float) -> None:
        """Until the bucket is sealed in this round. Raises TimeoutError, naming the source."""
        seal, began = self._seal(bucket), time.monotonic()
        while int(seal[2]) != call.round:
            waited = time.monotonic() - began
            if waited >= time_limit:
                source = call.members[bucket.source]
                raise TimeoutError(f"bucket {bucket.number} of {source} did not come within {time_limit:g} s")
            time.sleep(min(SHORTEST_LOOK + waited / 20, LONGEST_LOOK))

    def check(self, bucket: Bucket, checksum: int, version: int) -> None:
        """Raises ValueError when this is not the checksum that was sealed, or the bytes not of this version."""
        told, sealed, _ = self._seal(bucket).tolist()
        if sealed != version:
            raise ValueError(f"bucket {bucket.number} is of version {sealed}, not {version}")
        if told % MODULUS != checksum:
            raise damaged(bucket)

    def _seal(self, bucket: Bucket) -> Tensor:
        return self._places[bucket.number][-ALIGNMENT:].view(torch.int64)[:3]


def claim(file: Path, nbytes: int) -> int:
    """Make a file with all its memory; returns its descriptor, whose lock says that its maker lives.

    Raises OSError, in one line, when there is not so much room or such a file already; leaves nothing, and another's
    file as it is.
    """
    # It has no name before it is locked and whole: nobody sweeps it away, and no file of another's is opened.
    descriptor = os.open(file.parent, os.O_RDWR | os.O_TMPFILE, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.posix_fallocate(descriptor, 0, nbytes)
        # Only with a folder's descriptor does Python follow the link, as linkat(2) has it for files without a name.
        os.link(f"/proc/self/fd/{descriptor}", file, src_dir_fd=descriptor)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, FileExistsError):
            raise OSError(f"{file}: another trainer of this meeting holds it") from None
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM):
            reason = f"{file}: no room for {nbytes:,} bytes of shared memory ({error.strerror})"
            raise OSError(reason) from None
        raise
    return descriptor


def sweep(folder: Path) -> None:
    """Remove segments whose makers were killed: nobody holds their lock."""
    for file in folder.glob("*-slot-*"):
        with suppress(FileNotFoundError, BlockingIOError), file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()


def sealed_bytes(bucket: Bucket) -> int:
    """What a bucket takes with its seal, which has a cache line of its own."""
    return aligned(bucket.nbytes) + ALIGNMENT


def segment_bytes(plan: Plan) -> int:
    """What all buckets take."""
    return sum(sealed_bytes(bucket) for bucket in plan.buckets)


class Shared:
    """One rank's end of the shared memory."""

    def __init__(self, meeting: Meeting, config: WeightsConfig) -> None:
        self._meeting = meeting
        self._folder = config.folder
        self._limit = config.time_limit
        self._segments: dict[int, Segment] = {}
        self._claimed: dict[int, int] = {}

    def claim(self, plan: Plan) -> None:
        """Take the memory of both segments: trainer rank 0, once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)
        try:
            for slot in range(SLOTS):
                self._claimed[slot] = claim(self._file(slot), segment_bytes(plan))
        except OSError:
            self.leave()
            raise

    def move(self, plan: Plan, call: Call, member: str, sources: Tensors, targets: Tensors, timeline: Timeline) -> None:
        """Our part of an update: write what we hold, keep what we want.

        Raises TimeoutError when a source is silent for the time limit, ValueError for a damaged bucket.
        """
        segment, rank = self._segment(call.slot, plan), call.rank(member)
        for bucket in plan.buckets[: call.rehearsed]:
            place = segment.place(bucket)
            if bucket.source == rank:
                with timeline.span("copy", bucket.number):
                    segment.seal(bucket, sources.fill(bucket, place), call)
            if targets.want(bucket):
                with timeline.span("wait", bucket.number):
                    segment.wait(bucket, call, self._limit)
                with timeline.span("reload", bucket.number):
                    segment.check(bucket, targets.load(bucket, place), call.version)

    def announce(self, call: Call) -> None:
        """Make what was just written the current version, for those who come late: trainer rank 0, once decided."""
        self._meeting.post("current", call.to_json())

    def tidy(self, plan: Plan, call: Call) -> None:
        """Forget what the update left in the meeting: nothing."""

    def catch_up(self, plan: Plan, targets: Tensors, taken: Call | None) -> Call | None:
        """Read the current version, unless there is none, or none since ``taken``; returns the call that brought it.

        Nobody else takes part or waits. Raises ValueError for a damaged bucket, TimeoutError when new versions come
        faster than one can be read.
        """
        for _ in range(READ_TRIES):
            current = self._current()
            # A decision is read before the trainer announces it: until then, the current version is an older one.
            if current is None or (taken and (current.round <= taken.round or current.version == taken.version)):
                return None
            segment = self._segment(current.slot, plan)
            try:
                for bucket in plan.buckets:
                    if targets.want(bucket):
                        segment.check(bucket, targets.load(bucket, segment.place(bucket)), current.version)
            except ValueError:
                if self._current() == current:
                    raise
                continue
            # The slot is written to again only after another version became the current one.
            if self._current() == current:
                return current
        raise TimeoutError(f"the shared weights changed {READ_TRIES} times while they were read")

    def leave(self) -> None:
        """Give the segments' files back, where we claimed them. Who has them mapped keeps them."""
        for slot, descriptor in self._claimed.items():
            self._file(slot).unlink(missing_ok=True)
            os.close(descriptor)
        self._claimed.clear()

    def _current(self) -> Call | None:
        told = self._meeting.peek("current")
        return None if told is None else Call.from_json(told)

    def _segment(self, slot: int, plan: Plan) -> Segment:
        if slot not in self._segments:
            self._segments[slot] = Segment(self._file(slot), plan)
        return self._segments[slot]

    def _file(self, slot: int) -> Path:
        return self._folder / f"{self._meeting.name}-slot-{slot}"
