"""Follow a JSON Lines file that grows, is cut back or is written anew while it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openk2.schema import JSON

RECENT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Line:
    """One record and where it lies, in bytes."""

    offset: int
    length: int
    record: JSON


class Tail:
    """The whole lines of one file, each given once. ``num_damaged`` counts those that hold no JSON object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_damaged = 0
        self._end = 0  # of the last whole line
        self._recent = b""  # the bytes before it

    def lines(self) -> Iterator[Line | None]:
        """What has been added since. None means that what was read is gone: all that is there now follows.

        A last line still being written waits for its end.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            if self._forgets():
                yield None
            return
        with file:
            # A file that only grew still holds what was read last where it was read.
            file.seek(self._end - len(self._recent))
            if file.read(len(self._recent)) != self._recent and self._forgets():
                yield None
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset, self._end = self._end, self._end + len(line)
                self._recent = (self._recent + line)[-RECENT_BYTES:]
                record = parse(line)
                if record is not None:
                    yield Line(offset, len(line), record)
                else:
                    self.num_damaged += bool(line.strip())

    def _forgets(self) -> bool:
        """Begin again; False where nothing had been read."""
        had = self._end > 0
        self._end, self._recent, self.num_damaged = 0, b"", 0
        return had


def parse(line: bytes) -> JSON | None:
    """A line's record; None for what is no JSON object."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
