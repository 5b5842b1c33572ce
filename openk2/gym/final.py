"""The final answer of a reply that may show its working: all that follows the one "Answer:", and nothing else.

A verifier then asks that this text as a whole is an answer. So whatever is hedged, listed, commented or negated is none.
"""

from __future__ import annotations

import re
import unicodedata

_ANSWER, _BOLD = r"(?<![^\W_])answer[*_]{0,2}[ \t]{0,3}", r"(?:[*_]{1,2}(?=\s))?"
_MARKERS = (
    re.compile(rf"{_ANSWER}[:：=]{_BOLD}", re.IGNORECASE),
    re.compile(rf"{_ANSWER}is\b[ \t]{{0,3}}:?{_BOLD}", re.IGNORECASE),
)
_FENCE = re.compile(r"```[a-z]{0,10}\n(.*)\n[ \t]*```", re.DOTALL)
_WRAPPERS = (
    ("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ("`", "`"), ("$", "$"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"),
    ("\\boxed{", "}"), ("\\text{", "}"), ("\\(", "\\)"), ("\\[", "\\]"),
)  # fmt: skip
_MOST_WRAPPERS = 6
FORM = 'Show your working if you like. End with "Answer:", written once, and after it'
"""How a question begins to say what ``final_answer`` reads."""


def final_answer(reply: str, *, full_stop: bool = True) -> str | None:
    """What follows the one "Answer:", else the one "answer is", else the whole reply; None when there is nothing or two.

    Markup around the answer is taken off, and a full stop behind it unless ``full_stop`` says that it may belong to the
    answer (False). An answer with characters that nobody sees, such as zero-width ones, is none.
    """
    reply = reply.replace("\r\n", "\n")
    marker = next((marker for marker in _MARKERS if marker.search(reply)), None)
    parts = [reply] if marker is None else marker.split(reply)
    text = parts[-1].strip(" \t\n")
    if len(parts) > 2 or any(
        unicodedata.category(character)[0] == "C" for character in text if character not in "\n\t"
    ):
        return None
    for _ in range(_MOST_WRAPPERS):
        text = _unwrapped(text[:-1] if full_stop and text.endswith(".") else text)
    return text or None


def _unwrapped(text: str) -> str:
    fenced = _FENCE.fullmatch(text)
    if fenced:
        return fenced[1].strip(" \t\n")
    if text.count("**") == 1:  # of bold type that began before the marker
        text = text.removesuffix("**")
    for left, right in _WRAPPERS:
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            return text[len(left) : -len(right)].strip(" \t\n")
    return text.strip(" \t\n")
