"""What a server says about its tools is data: cleaned of what cannot be seen, cut to length, reported where it gives orders.

Nothing here proves that a text is harmless. The patterns catch the plain cases; a report is for a person to read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_CHARACTERS = 4096
CUT = " […]"
EXCERPT = 80

# What the pattern is called, and what it looks for.
ORDERS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "overrides": r"\b(ignore|disregard|forget)\b.{0,30}\b(previous|prior|above|earlier|other|all)\b.{0,20}"
        r"\b(instruction|prompt|rule|message)",
        "hides": r"\b(do not|don't|never|without)\b.{0,20}\b(tell|mention|inform|notify|reveal|asking|show)\w*\b.{0,20}"
        r"\b(the )?user",
        "poses": r"<\s*/?\s*(important|system|assistant|instructions?|secret)\s*>|\[/?INST\]|<\|im_start\|>",
        "prompts": r"\b(system prompt|developer message|you are now|new instructions?:)",
        "goes first": r"\b(before|instead of)\b.{0,20}\b(using|calling|any|every|all)\b.{0,20}\bother tools?\b",
        "wants secrets": r"(~/\.ssh|id_rsa|\.aws/credentials|/etc/passwd|\.env\b.{0,30}\b(content|read|send))",
    }.items()
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A text that seems to speak to the model: where it stands, which pattern it met, and the place."""

    tool: str
    where: str
    pattern: str
    excerpt: str


def clean(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The text without control, format, private and unassigned characters, at most ``limit`` characters of it."""
    seen = "".join(character for character in text if not is_hidden(character)).strip()
    return seen if len(seen) <= limit else seen[: limit - len(CUT)] + CUT


def is_hidden(character: str) -> bool:
    """Whether a character does not show: a control other than tab and line feed, a direction mark, a tag."""
    return character not in "\n\t" and unicodedata.category(character) in {"Cc", "Cf", "Co", "Cn", "Cs"}


def suspicions(tool: str, spec: Any) -> list[Suspicion]:
    """What in a raw declaration is aimed at the model, every string of it looked at. Nothing is executed."""
    found = []
    for where, text in _texts(spec, ""):
        # A zero-width joiner or a line feed at the end of a line is no trick; four hidden characters are.
        hidden = [c for c in text if is_hidden(c) and c != "\r"]
        if len(hidden) >= 4:
            found.append(Suspicion(tool, where, "hidden characters", " ".join(f"U+{ord(c):04X}" for c in hidden[:8])))
        seen = clean(text, len(text) + len(CUT))
        for name, pattern in ORDERS.items():
            if match := pattern.search(seen):
                start = max(match.start() - 20, 0)
                found.append(Suspicion(tool, where, name, seen[start : start + EXCERPT]))
    return found


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    pending = [(where, value)]
    while pending:
        at, item = pending.pop()
        if isinstance(item, str):
            yield at or "/", item
        elif isinstance(item, Mapping):
            pending += [(f"{at}/{key}", inner) for key, inner in item.items()]
            yield from ((f"{at}/{key}", key) for key in item)
        elif isinstance(item, list):
            pending += [(f"{at}/{index}", inner) for index, inner in enumerate(item)]
