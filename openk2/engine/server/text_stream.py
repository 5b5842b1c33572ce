"""Bytes to text as they come: no character is ever split, no part of a stop text ever shown."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Push bytes in, take text out. What might still become a character or a stop text is held back.

    ``stopped`` is True once a stop text was seen: it and all after it are dropped. Bytes that are no
    UTF-8 read as U+FFFD.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    @property
    def holds(self) -> bool:
        """Whether something pushed is not shown yet."""
        return bool(self._held or self._decoder.getstate()[0])

    def push(self, data: bytes) -> str:
        """Text that is certain after ``data``."""
        return self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """The rest; nothing comes after it. Bytes pushed later begin a text of their own."""
        text = self._release(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        self._decoder.reset()
        return text

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        pending = self._held + text
        found = [at for stop in self._stop if (at := pending.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return pending[: min(found)]
        certain = len(pending) - max((_overlap(pending, stop) for stop in self._stop), default=0)
        self._held = pending[certain:]
        return pending[:certain]


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of ``text`` may be the beginning of ``stop``."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)
