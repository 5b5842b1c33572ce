"""A box for untrusted programs.

    box = Sandbox()
    box.write("hello.py", b"print(6 * 7)")
    result = await box.run(["python3", "hello.py"])

Between runs a box is no more than its files, an archive in memory; each run has a bwrap of its own, and ends with every
process it started.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from openk2.sandbox.cell import Cell, Reached
from openk2.sandbox.config import Limits
from openk2.sandbox.enclosure import SandboxError
from openk2.sandbox.pool import Pool

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


class Sandbox:
    """One box, at first with an empty work folder. ``archive`` is the whole of its state (a tar), to copy or keep."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        pool: Pool | None = None,
        archive: bytes = b"",
        packages: tuple[str, ...] = (),
    ) -> None:
        """``pool`` has bwraps ready, with its own limits and packages; ``archive`` is another box's.

        ``packages`` of this interpreter, and what they require, can be read at ``packages.SHOWN_AT``.
        """
        self.limits = pool.limits if pool is not None else limits or Limits()
        self.archive = archive
        self._pool, self._packages = pool, packages

    def write(self, path: str, data: bytes) -> None:
        """Write a file of the work folder. Raises ValueError for a path that leads out of it."""
        place = PurePosixPath(path)
        if place.is_absolute() or ".." in place.parts or not place.parts:
            raise ValueError(f"{path!r} is no path within the work folder")
        self.archive += _packed(str("work" / place), data)

    def read(self, path: str) -> bytes:
        """A regular file's content. Raises FileNotFoundError."""
        files = self.files()
        name = str(PurePosixPath(path))
        if name not in files:
            raise FileNotFoundError(f"no file {path} in the box")
        return files[name]

    def files(self) -> dict[str, bytes]:
        """All regular files of the work folder, by relative path; links are left out. Raises SandboxError for a broken archive."""
        found: dict[str, bytes] = {}
        room = 2 * self.limits.disk_bytes
        try:
            with tarfile.open(fileobj=io.BytesIO(self.archive), mode="r:", ignore_zeros=True) as archive:
                for member in archive:
                    room -= member.size
                    if room < 0 or member.issparse():
                        raise ValueError("more than the box can hold")
                    content = archive.extractfile(member) if member.isreg() or member.islnk() else None
                    name = member.name.removeprefix("work/")
                    found.pop(name, None)  # a later member takes the place of an earlier one
                    if content is not None:
                        found[name] = content.read()
        except Exception as error:  # whoever took over the box wrote this archive
            raise SandboxError(f"the box left no readable archive: {error}") from error
        return dict(sorted(found.items()))

    async def run(self, argv: Sequence[str], stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
        """Run a program in the work folder until it ends or reaches a limit; then the files stay as they were before.

        ``env`` adds to the few variables there are. Raises SandboxError where no box can be made.
        """
        given = self.archive + (_packed("stdin", stdin) if stdin else b"")
        cell = await self._cell()
        try:
            began = time.monotonic()
            kept = await cell.run(argv, env or {}, given, has_stdin=bool(stdin))
            wall_s = time.monotonic() - began
        finally:
            await cell.close()
        if kept is not None:
            self.archive = kept
        outcome: Outcome = cell.reached or ("ok" if cell.exit_code == 0 else "failed")
        return Result(
            outcome, cell.exit_code, bytes(cell.stdout), bytes(cell.stderr), cell.cpu_s, wall_s, cell.peak_memory_bytes
        )

    async def _cell(self) -> Cell:
        if self._pool is not None:
            return await self._pool.take()
        cell = Cell(self.limits, self._packages)
        await cell.start()
        return cell


def _packed(name: str, data: bytes) -> bytes:
    """An archive of one file."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return whole.getvalue()
