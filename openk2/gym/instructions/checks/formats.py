"""Replies that a program reads: JSON, CSV, tags."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

from openk2.gym.instructions.check import Count, Phrase, Phrases, group
from openk2.gym.instructions.reading import lines

_FENCED = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL | re.IGNORECASE)


def json_of(reply: str) -> Any:
    """The value that the reply is, in a fence or not; None for no JSON, for NaN, and for a key that stands twice."""
    fenced = _FENCED.match(reply)
    try:
        return json.loads(fenced[1] if fenced else reply, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def json_reply(reply: str) -> bool:
    """The whole reply is an object or an array in JSON, in a fence or not."""
    return isinstance(json_of(reply), dict | list)


def json_keys(reply: str, keys: Phrases) -> bool:
    """The whole reply is one JSON object with exactly these keys, none of them empty."""
    value = json_of(reply)
    return isinstance(value, dict) and set(value) == set(keys) and all(_is_filled(value[key]) for key in value)


def json_array(reply: str, number: Count) -> bool:
    """The whole reply is a JSON array of exactly so many elements, none of them empty."""
    value = json_of(reply)
    return isinstance(value, list) and len(value) == number and all(map(_is_filled, value))


def _is_filled(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def csv_rows(reply: str, header: Phrases, rows: Count) -> bool:
    """Comma-separated lines: this header, then exactly so many rows of as many cells, none empty."""
    try:
        found = list(csv.reader(io.StringIO("\n".join(lines(reply))), strict=True))
    except csv.Error:
        return False
    shaped = [[cell.strip() for cell in row] for row in found]
    return (
        len(shaped) == rows + 1
        and shaped[0] == list(header)
        and all(len(row) == len(header) and all(row) for row in shaped)
    )


def tagged(reply: str, tag: Phrase) -> bool:
    """The whole reply stands between <tag> and </tag>, which occur once each."""
    text, opening, closing = reply.strip(), f"<{tag}>", f"</{tag}>"
    around = text.startswith(opening) and text.endswith(closing)
    return (
        around and text.count(opening) == text.count(closing) == 1 and bool(text[len(opening) : -len(closing)].strip())
    )


CHECKS = group(json_reply, json_keys, json_array, csv_rows, tagged)
