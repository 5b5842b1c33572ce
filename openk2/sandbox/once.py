"""One run of one program in a cell that nobody has used: what goes in, what comes out, and who provides the cells."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from openk2.sandbox.cell import Cell, Reached
from openk2.sandbox.config import Fittings, Limits

Outcome = Literal["ok", "failed"] | Reached


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    ``ok`` and ``failed`` are the program's own end, by its exit code (128 and more: the signal that ended it). ``timeout`` (CPU
    or wall), ``memory`` and ``output`` name the limit it reached; output is cut there. ``killed``: the box did not survive it.
    Seconds and bytes are of all its processes; ``wall_s`` includes packing the files.
    """

    outcome: Outcome
    exit_code: int
    stdout: bytes
    stderr: bytes
    cpu_s: float
    wall_s: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Order:
    """A program with its arguments, variables, and files as an archive; with ``has_stdin`` it reads the archive's ``stdin``."""

    argv: Sequence[str]
    env: Mapping[str, str]
    given: bytes
    has_stdin: bool


class Runner(Protocol):
    """Where runs happen: a cell made on the spot, a pool of this process, a fleet on other machines."""

    limits: Limits

    async def run(self, order: Order) -> tuple[Result, bytes | None]:
        """How it ended, and the archive of its files, None where a limit was reached. Raises SandboxError."""
        ...


class OnTheSpot:
    """Makes each cell when it is wanted."""

    def __init__(self, limits: Limits, fittings: Fittings) -> None:
        self.limits, self._fittings = limits, fittings

    async def run(self, order: Order) -> tuple[Result, bytes | None]:
        """Start a cell, run, close it. Raises SandboxError where none can be made."""
        cell = Cell(self.limits, self._fittings)
        await cell.start()
        return await run_in(cell, order)


async def run_in(cell: Cell, order: Order) -> tuple[Result, bytes | None]:
    """Run in a cell that is up, and close it."""
    try:
        began = time.monotonic()
        kept = await cell.run(order.argv, order.env, order.given, has_stdin=order.has_stdin)
        wall_s = time.monotonic() - began
    finally:
        await cell.close()
    outcome: Outcome = cell.reached or ("ok" if cell.exit_code == 0 else "failed")
    stdout, stderr = bytes(cell.stdout), bytes(cell.stderr)
    return Result(outcome, cell.exit_code, stdout, stderr, cell.cpu_s, wall_s, cell.peak_memory_bytes), kept
