"""Weight updates on CPU against the ceiling of their transport, measured in the same run.

One trainer and one replica process. Through shared memory: against two torch copies of the same bytes (into shared
memory, out of it), one after the other. By broadcast, gloo on loopback: against a broadcast of one tensor of all bytes
between two processes. Ceilings and updates alternate; medians count. An update includes its checksums and its votes.

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
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from openk2.engine.weights.config import FORMS, WeightsConfig
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.parts import whole
from openk2.engine.weights.replica import Replica
from openk2.engine.weights.trainer import Trainer
from openk2.jobs.provenance import provenance

PATIENCE = 120.0
# 16 MiB of bfloat16.
MATRIX = (4096, 2048)
MATRIX_MB = 16
# Rounds before those that count: both shared segments, and both a tensor and its twin, must have been touched.
WARM_UP = 2
CEILING = {"shared": "two copies", "pipeline": "one broadcast", "two-stage": "one broadcast"}
NAMES = {"shared": "shared memory", "pipeline": "gloo, pipeline", "two-stage": "gloo, two-stage"}


def weights(megabytes: int) -> dict[str, Tensor]:
    """As many matrices as make so many MiB."""
    return {f"layer.{i}": torch.randn(MATRIX).bfloat16() for i in range(megabytes // MATRIX_MB)}


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
        """End the other process."""
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
    targets = whole({name: torch.zeros_like(tensor) for name, tensor in weights(megabytes).items()})
    own = Replica("bench", targets, Meeting.join(address))

    def update() -> str:
        own.update(PATIENCE)
        return own.timeline.text()

    return update


def broadcasting(address: str, megabytes: int, rank: int) -> Callable[[], None]:
    """A broadcast of one tensor. The group forms at the first call: both sides must come at once."""
    meeting, tensor = Meeting.join(address), torch.ones(megabytes * 2**20, dtype=torch.uint8)
    groups: list[dist.ProcessGroup] = []

    def half() -> None:
        if not groups:
            groups.append(meeting.group("ceiling", rank, 2, "gloo", PATIENCE))
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        groups[0].broadcast([tensor], options).wait()

    return half


class Copies:
    """All bytes into shared memory and out again."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        nbytes = megabytes * 2**20
        self._start, self._end = (torch.ones(nbytes, dtype=torch.uint8) for _ in range(2))
        with (folder / "ceiling").open("w+b") as file:
            file.truncate(nbytes)
            self._between = torch.frombuffer(mmap.mmap(file.fileno(), nbytes), dtype=torch.uint8)

    def seconds(self) -> float:
        """One round."""
        began = time.perf_counter()
        self._between.copy_(self._start)
        self._end.copy_(self._between)
        return time.perf_counter() - began


class OneBroadcast:
    """All bytes in one tensor to the other process."""

    def __init__(self, megabytes: int) -> None:
        # The meeting is kept: its store is the group's.
        self._meeting = Meeting.host()
        self._other = Other(broadcasting, self._meeting.address, megabytes, 1)
        self._half = broadcasting(self._meeting.address, megabytes, 0)

    def seconds(self) -> float:
        """One round."""
        return self._other.beside(self._half)[0]

    def close(self) -> None:
        """End the other process."""
        self._other.close()


class Update:
    """A trainer here, a replica there."""

    def __init__(self, megabytes: int, config: WeightsConfig) -> None:
        meeting = Meeting.host()
        self._trainer = Trainer(whole(weights(megabytes)), meeting, config)
        self._other = Other(receiving, meeting.address, megabytes)
        self._version = 0
        self.timelines: dict[str, str] = {}

    def seconds(self) -> float:
        """One round."""
        self._version += 1
        seconds, told = self._other.beside(lambda: self._trainer.publish(self._version))
        self.timelines = {"trainer": self._trainer.timeline.text(), "replica": told}
        return seconds

    def close(self) -> None:
        """End the other process."""
        self._other.close()
        self._trainer.close()


def measure(megabytes: int, bucket_megabytes: int, rounds: int) -> dict:
    """Seconds of every round, and the time lines of the last."""
    bucket_bytes = bucket_megabytes * 2**20
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        shared = WeightsConfig(folder=Path(folder), bucket_bytes=bucket_bytes)
        updates = {"shared": Update(megabytes, shared)}
        for form in FORMS:
            updates[form] = Update(megabytes, WeightsConfig(via="gloo", form=form, bucket_bytes=bucket_bytes))
        ceilings = {"two copies": Copies(Path(folder), megabytes), "one broadcast": OneBroadcast(megabytes)}
        contestants = {**ceilings, **updates}
        runs: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(WARM_UP + rounds):
            for name, contestant in contestants.items():
                seconds = contestant.seconds()
                if turn >= WARM_UP:
                    runs[name].append(seconds)
        for own in (*updates.values(), ceilings["one broadcast"]):
            own.close()
    return {
        "megabytes": megabytes,
        "bucket_megabytes": bucket_megabytes,
        "seconds": runs,
        "median_seconds": {name: statistics.median(times) for name, times in runs.items()},
        "of_ceiling": {
            name: statistics.median(c / t for c, t in zip(runs[CEILING[name]], runs[name], strict=True))
            for name in updates
        },
        "timelines": {name: update.timelines for name, update in updates.items()},
    }


def table(results: dict) -> str:
    """The figures in Markdown."""
    p = results["provenance"]
    lines = [
        f"`python -m bench.weights`, commit {p['commit']}, {p['machine']}, torch {p['torch']}, {p['date']}.",
        f"{results['megabytes']} MiB of bfloat16 in buckets of {results['bucket_megabytes']} MiB, two processes with "
        "one thread each; medians of alternating rounds. Checksums and votes are part of an update.",
        "",
        "| update | seconds | GB/s | ceiling | its seconds | of the ceiling |",
        "|---|---|---|---|---|---|",
    ]
    medians = results["median_seconds"]
    for name, share in results["of_ceiling"].items():
        seconds, ceiling = medians[name], CEILING[name]
        speed = results["megabytes"] * 2**20 / seconds / 1e9
        lines.append(
            f"| {NAMES[name]} | {seconds:.3f} | {speed:.2f} | {ceiling} | {medians[ceiling]:.3f} | {share:.0%} |"
        )
    lines += ["", "The last round, digits and letters are buckets:", "", "```"]
    for name, sides in results["timelines"].items():
        for side, text in sides.items():
            lines += [f"{NAMES[name]}: {side}", text, ""]
    return "\n".join([*lines[:-1], "```"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/weights.json"), help="where to write the JSON")
    parser.add_argument("--megabytes", type=int, default=512, help="bytes of the weights, in MiB")
    parser.add_argument("--bucket-megabytes", type=int, default=16, help="bytes of a bucket, in MiB")
    parser.add_argument("--rounds", type=int, default=11, help="alternating rounds that count")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {"provenance": provenance()} | measure(args.megabytes, args.bucket_megabytes, args.rounds)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
