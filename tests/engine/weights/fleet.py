"""A small model cut differently by trainer ranks and replicas, and processes that play their roles.

Processes come from a fork server that has imported torch, so that starting one takes milliseconds.
"""

import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path

import torch

from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.disk import collective_read
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.parts import Part, shard, whole
from openk2.engine.weights.replica import Replica
from openk2.engine.weights.timeline import Timeline
from openk2.engine.weights.trainer import Trainer

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch.distributed", __name__])
EXPERTS, WIDTH, HIDDEN, ROWS = 6, 32, 16, 24
LIMIT = 2.0
# What a test allows a message that needs no update.
PATIENCE = 20.0


def config(folder: Path, via: str, **changes) -> WeightsConfig:
    return WeightsConfig(via=via, folder=folder, **({"bucket_bytes": 2000, "time_limit": LIMIT} | changes))


def full(version: int) -> dict[str, torch.Tensor]:
    """The model at a version: fused gate|up, experts in stacks."""
    generator = torch.Generator().manual_seed(version)
    shapes = {
        "embed": (ROWS, WIDTH),
        "experts.gate_up": (EXPERTS, 2 * HIDDEN, WIDTH),
        "experts.down": (EXPERTS, WIDTH, HIDDEN),
        "norm": (WIDTH,),
        "scale": (),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def trainer_parts(tensors: dict[str, torch.Tensor], rank: int, ranks: int) -> list[Part]:
    """Rows and experts in equal ranges; the last rank also has the last stage's norm, everybody the scale."""
    parts = [
        shard(name, tensors[name].chunk(ranks)[rank].clone(), rank, ranks)
        for name in ("embed", "experts.gate_up", "experts.down")
    ]
    own = ["scale", "norm"] if rank == ranks - 1 else ["scale"]
    return parts + whole({name: tensors[name].clone() for name in own})


def replica_parts(rank: int, ranks: int) -> list[Part]:
    """Other expert ranges, gate and up of each expert apart, columns of the embedding, all in bfloat16."""
    parts = []
    for expert in range(EXPERTS)[rank * EXPERTS // ranks : (rank + 1) * EXPERTS // ranks]:
        for row in (0, HIDDEN):
            shape = (EXPERTS, 2 * HIDDEN, WIDTH)
            parts.append(Part("experts.gate_up", empty(HIDDEN, WIDTH), shape, (expert, slice(row, row + HIDDEN))))
        parts.append(Part("experts.down", empty(WIDTH, HIDDEN), (EXPERTS, WIDTH, HIDDEN), (expert,)))
    width = WIDTH // ranks
    parts.append(shard("embed", empty(ROWS, width), rank, ranks, dim=1))
    # One tensor of the replica made of two of the trainer's.
    fused = empty(WIDTH + 1)
    parts.append(Part("norm", fused, (WIDTH,), where=(slice(0, WIDTH),)))
    parts.append(Part("scale", fused, (), where=(WIDTH,)))
    return parts


def empty(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


def version_held(parts: list[Part], versions: range = range(9)) -> int | None:
    """The one version that every tensor has to the bit; None for untouched zeros or a mixture."""
    for version in versions:
        tensors = full(version)
        if all(torch.equal(part.tensor[part.where], tensors[part.name][part.at].bfloat16()) for part in parts):
            return version
    return None


class Child:
    """A process that answers one command after the other."""

    def __init__(self, role, *args) -> None:
        self._ours, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=play, args=(role, theirs, *args), daemon=True)
        self.process.start()
        theirs.close()

    def tell(self, *command) -> None:
        self._ours.send(command)

    def hear(self, seconds: float = PATIENCE):
        assert self._ours.poll(seconds), f"no answer within {seconds} s"
        return self._ours.recv()

    def ask(self, *command, seconds: float = PATIENCE):
        self.tell(*command)
        return self.hear(seconds)

    def died(self) -> int | None:
        self.process.join(PATIENCE)
        return self.process.exitcode

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self._ours.close()


def play(role, connection, *args) -> None:
    torch.set_num_threads(1)
    commands: dict = {"start": lambda: role(*args)}
    name, values = "start", ()
    while True:
        began = time.monotonic()
        try:
            answer = commands[name](*values)
        except (RuntimeError, ValueError, OSError) as error:
            answer = (type(error).__name__, str(error), time.monotonic() - began)
        if name == "start" and isinstance(answer, dict):
            commands = answer
            answer = commands.get("ready")
        connection.send(answer)
        name, *values = connection.recv()


def replica(address: str, name: str, rank: int, ranks: int):
    parts = replica_parts(rank, ranks)
    own = Replica(name, parts, Meeting.join(address))
    return {
        "ready": own.version,
        "update": own.update,
        "serve": lambda: serve(own, parts),
        "close": own.close,
        "holds": lambda: version_held(parts),
        "die after": die_after,
        "timeline": lambda: own.timeline.spans,
    }


def serve(own: Replica, parts: list[Part]) -> list[int | None]:
    """Take part in an update while another thread looks at the weights all the time; what it saw, in order."""
    seen, ended = [], threading.Event()

    def look() -> None:
        while not ended.is_set():
            with own.lock:
                held = version_held(parts)
            if held not in seen[-1:]:
                seen.append(held)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        own.update(10.0)
        # One more look, with the new version in place.
        time.sleep(0.2)
    finally:
        ended.set()
        looking.join()
    return seen


def trainer(address: str, rank: int, ranks: int):
    parts = trainer_parts(full(0), rank, ranks)
    own = Trainer(parts, Meeting.join(address), rank=rank, ranks=ranks)
    return {
        "publish": lambda version: publish(own, parts, version, rank, ranks),
        "die after": die_after,
    }


def publish(own: Trainer, parts: list[Part], version: int, rank: int, ranks: int) -> int:
    """A training step in place, and its publication."""
    for part, new in zip(parts, trainer_parts(full(version), rank, ranks), strict=True):
        part.tensor.copy_(new.tensor)
    own.publish(version)
    return version


def die_after(spans: int) -> None:
    """Have SIGKILL end this process when it has been through so many stages of the next update."""
    add = Timeline.add

    def add_and_die(own: Timeline, *span) -> None:
        add(own, *span)
        if len(own.spans) == spans:
            os.kill(os.getpid(), signal.SIGKILL)

    Timeline.add = add_and_die


def leader(folder: Path, most_bytes: int | None = None):
    """Trainer rank 0 in a process of its own; in which no file may be larger than ``most_bytes``."""
    meeting = Meeting.host()

    def start():
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        parts = trainer_parts(full(0), 0, 1)
        own = Trainer(parts, meeting, config(folder, "shared"))
        commands["publish"] = lambda version: publish(own, parts, version, 0, 1)
        commands["die after"] = die_after

    commands = {"ready": meeting.address, "register": start}
    return commands


def damage(file: Path, at: int) -> None:
    """Turn one bit of a file."""
    with file.open("r+b") as opened:
        before = os.pread(opened.fileno(), 1, at)
        os.pwrite(opened.fileno(), bytes([before[0] ^ 16]), at)


def reader(address: str, rank: int, ranks: int):
    """A rank that takes part in a collective read of a folder it cannot see."""
    parts = replica_parts(rank % 2, 2)
    meeting = Meeting.join(address)
    return {
        "read": lambda: collective_read(Path("/nowhere"), parts, meeting, rank=rank, ranks=ranks, connect_seconds=10.0),
        "holds": lambda: version_held(parts),
    }
