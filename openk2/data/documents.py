"""What every source yields: a document, in parts that carry loss or do not; and what none can yield."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

Skipped = Counter[str]  # reason: how many


@dataclass(slots=True, frozen=True)
class Document:
    """A text in parts, each with whether its tokens are to be predicted, and the name of its source."""

    parts: tuple[tuple[str, bool], ...]
    source: str

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(text for text, _ in self.parts)


def read_text(path: Path, skipped: Skipped) -> str:
    """A file's text; the empty text, counted, when it is binary or not UTF-8."""
    data = path.read_bytes()
    if b"\0" in data[:8192]:
        skipped["binary files"] += 1
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        skipped["files not in UTF-8"] += 1
        return ""
