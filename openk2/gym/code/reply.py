"""The program in a reply."""

from __future__ import annotations

import re

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*")
_PYTHON = ("python", "python3", "py")


def program_in(reply: str) -> str:
    """The last fenced block marked as Python; failing that the last block of all; failing that the whole reply.

    A block ends with a fence at least as long as the one that opened it, or with the reply.
    """
    blocks: list[tuple[str, list[str]]] = []
    opened = ""
    for line in reply.splitlines():
        match = _FENCE.fullmatch(line)
        if not opened and match:
            opened = match[1]
            blocks.append((match[2].lower(), []))
        elif opened and match and not match[2] and match[1].startswith(opened):
            opened = ""
        elif opened:
            blocks[-1][1].append(line)
    if not blocks:
        return reply
    marked = [lines for mark, lines in blocks if mark in _PYTHON]
    return "\n".join(marked[-1] if marked else blocks[-1][1]) + "\n"
