"""Recipe files: TOML in, with ``base = "other.toml"`` inheritance, and TOML out.

A file states only what differs from its base: tables are merged key by key, everything else is replaced.
TOML has no null; the text ``"none"`` stands for it, in both directions.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from openk2.jobs.atomic import write_text

JSON = dict[str, Any]
Key = tuple[str, ...]
Origin = dict[Key, str]
"""Which file or flag last spoke about a key."""

NONE = "none"


def read(path: Path, *, below: tuple[Path, ...] = ()) -> tuple[JSON, Origin]:
    """The file's data, merged over its bases, and who said what.

    Raises FileNotFoundError for a missing file or base, ValueError for one that is no TOML or is its own base.
    """
    if not path.is_file():
        wanted = f" (the base of {below[-1]})" if below else ""
        raise FileNotFoundError(f"{path}: there is no such recipe{wanted}")
    chain = (*below, path)
    if path.resolve() in {file.resolve() for file in below}:
        raise ValueError(f"{path}: base goes round in a circle: {' -> '.join(map(str, chain))}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from None
    base = data.pop("base", None)
    own = _origin(data, (), str(path))
    if base is None:
        return data, own
    if not isinstance(base, str):
        raise ValueError(f"{path}: base = {base!r}: should be the name of a recipe beside this one")
    lower, origin = read(path.parent / base, below=chain)
    return merge(lower, data), origin | own


def merge(lower: JSON, upper: JSON) -> JSON:
    """``upper`` laid over ``lower``; neither is changed."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _origin(data: JSON, prefix: Key, file: str) -> Origin:
    origin: Origin = {}
    for key, value in data.items():
        origin[*prefix, key] = file
        if isinstance(value, dict):
            origin |= _origin(value, (*prefix, key), file)
    return origin


def emit(data: JSON) -> str:
    """TOML text that reads back as ``data``. Raises ValueError for what TOML cannot say."""
    return "\n".join(_table(data, ())).strip() + "\n"


def write(data: JSON, path: Path) -> None:
    """Put ``emit(data)`` at ``path``, whole or not at all."""
    write_text(path, emit(data))


def _table(data: JSON, prefix: Key) -> list[str]:
    plain = {key: value for key, value in data.items() if not isinstance(value, dict)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in data.items():
        if isinstance(value, dict):
            name = (*prefix, key)
            lines += ["", f"[{'.'.join(map(_key, name))}]", *_table(value, name)]
    return lines


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _value(value: object) -> str:
    match value:
        case None:
            return _text(NONE)
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)  # inf and nan are TOML words too
        case str():
            return _text(value)
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case dict():
            return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    raise ValueError(f"a recipe cannot hold a {type(value).__name__}: {value!r}")


def _text(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
