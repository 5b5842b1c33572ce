"""The words of ``lexicon.toml`` as types."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from openk2.worlds.spec import Field, FieldType

PATH = Path(__file__).with_name("lexicon.toml")


@dataclass(frozen=True, slots=True)
class Count:
    """A number and the verbs that raise and lower it."""

    field: Field
    up: str
    down: str


@dataclass(frozen=True, slots=True)
class Move:
    """A verb and the status that it leads to."""

    verb: str
    target: str


@dataclass(frozen=True, slots=True)
class Kind:
    """People, places, things, records or events of a category; ``general`` facts are those of any category."""

    nouns: tuple[str, ...]
    facts: tuple[Field, ...]
    general: tuple[Field, ...]
    counts: tuple[Count, ...]
    moves: tuple[Move, ...]
    starts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A part of life with its applications."""

    name: str
    applications: tuple[str, ...]
    kinds: Mapping[str, Kind]


@cache
def categories() -> Mapping[str, Category]:
    """All categories by name, in the file's order."""
    data = tomllib.loads(PATH.read_text())
    general = {kind: _facts(words) for kind, words in data.pop("any").items()}
    return {name: _category(name, words, general) for name, words in data.items()}


def find_category(name: str) -> Category:
    """The category ``name``. Raises ValueError, listing what there is."""
    if name not in categories():
        raise ValueError(f"no category called {name!r}; there are {', '.join(categories())}")
    return categories()[name]


def _category(name: str, words: Mapping[str, Any], general: Mapping[str, tuple[Field, ...]]) -> Category:
    kinds = {kind: _kind(words[kind], general[kind]) for kind in general}
    return Category(name, tuple(words["apps"].split()), kinds)


def _kind(words: Mapping[str, str], general: tuple[Field, ...]) -> Kind:
    nouns, starts = tuple(words["nouns"].split()), tuple(words["starts"].split())
    counts = tuple(_count(word) for word in words["counts"].split())
    moves = tuple(Move(*word.split(":")) for word in words["moves"].split())
    return Kind(nouns, _facts(words), general, counts, moves, starts)


def _facts(words: Mapping[str, str]) -> tuple[Field, ...]:
    return tuple(_fact(word) for word in words["facts"].split())


def _fact(word: str) -> Field:
    """``due_date:date``, ``iban:code!`` or ``size=small|large``."""
    if "=" in word:
        name, values = word.split("=")
        return Field(name, "enum", tuple(values.split("|")))
    name, kind = word.removesuffix("!").split(":")
    return Field(name, cast("FieldType", kind), unique=word.endswith("!"))


def _count(word: str) -> Count:
    """``balance:deposit/withdraw``."""
    name, verbs = word.split(":")
    up, down = verbs.split("/")
    return Count(Field(name, "amount"), up, down)
