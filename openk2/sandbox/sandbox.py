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
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from openk2.sandbox.config import BARE, Fittings, Limits
from openk2.sandbox.enclosure import SandboxError
from openk2.sandbox.once import OnTheSpot, Order, Result, Runner


class Sandbox:
    """One box, at first with an empty work folder. ``archive`` is the whole of its state (a tar), to copy or keep."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        pool: Runner | None = None,
        archive: bytes = b"",
        fittings: Fittings = BARE,
    ) -> None:
        """``pool`` has bwraps ready, here or elsewhere, with its own limits and fittings; ``archive`` is another box's."""
        self._runner = pool or OnTheSpot(limits or Limits(), fittings)
        self.limits = self._runner.limits
        self.archive = archive

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
        if not self.archive:
            return found
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
        result, kept = await self._runner.run(Order(tuple(argv), env or {}, given, bool(stdin)))
        if kept is not None:
            self.archive = kept
        return result


def _packed(name: str, data: bytes) -> bytes:
    """An archive of one file."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return whole.getvalue()
