"""JSON Lines that survive a kill at any moment: append whole lines, read past a torn last one."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openk2.jobs.atomic import write_text

dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
log = logging.getLogger(__name__)


def encode(record: Mapping[str, Any]) -> bytes:
    """A record's line."""
    return (dump(record) + "\n").encode()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, in order. A torn last line is reported and dropped.

    Raises ValueError, naming file and line, for a line within the file that is no JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = _parse(line)
            if record is not None:
                yield record
            elif line.endswith(b"\n"):
                raise ValueError(f"{path}:{number}: not a JSON object: {line[:60]!r}")
            else:
                log.warning("%s:%d: dropped a torn last line of %d bytes", path, number, len(line))


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file by these records, whole or not at all."""
    write_text(path, "".join(dump(record) + "\n" for record in records))


class Appender:
    """Appends records to a file, one whole line per system call, so that a killed process tears one line at most.

    Opening mends what an earlier kill left: a torn last line is reported and cut off. Raises ValueError where another
    process has the file open in this way.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise ValueError(
                f"{path}: another run is writing this file; wait for it, or choose another folder"
            ) from None
        _mend(path)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record. Raises OSError when the disk takes no whole line."""
        self.write_line(encode(record))

    def write_line(self, line: bytes) -> None:
        """Append what ``encode`` made of a record, here or in another process."""
        written = os.write(self._handle, line)
        if written != len(line):  # torn, where a later line that fits would hide the tear
            os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
            told = f"no room for a line of {len(line)} bytes, {written} were written"
            raise OSError(errno.ENOSPC, told, str(self._path))

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._handle)
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object on a line, or None. A line cut short never parses: its closing brace is missing."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _mend(path: Path) -> None:
    """Make ``path`` end in a whole line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        data = file.read()
        if not data or data.endswith(b"\n"):
            return
        start = data.rfind(b"\n") + 1
        if _parse(data[start:]) is not None:
            file.write(b"\n")
            return
        log.warning("%s: cut off a torn last line of %d bytes", path, len(data) - start)
        file.truncate(start)
