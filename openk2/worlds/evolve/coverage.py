"""How wide a set of tools is: skeletons, near-duplicates, and where the categories lie (K2 §3.1, figure of tool coverage)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from datasketch import MinHash, MinHashLSH

from openk2.schema import ToolSpec
from openk2.worlds.spec import App, Condition, Tool, split_role
from openk2.worlds.tools import compile_tools

SHINGLE = 2  # words
NUM_PERM = 128
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def skeleton(app: App, tool: Tool) -> str:
    """A tool without its nouns: operation, types and optionality of parameters, what it shows, preconditions."""
    entity = app.entity(tool.entity)

    def role(name: str) -> str:
        field, comparison = split_role(name)
        is_field = any(field == f.name for f in entity.fields) and (tool.op, name) != ("search", "limit")
        return entity.field(field).type + comparison.removeprefix("=") if is_field else name

    def test(condition: Condition) -> str:
        holder = app.entity(entity.field(condition.via).ref) if condition.via else entity
        return f"{condition.test} {holder.field(condition.field).type}{' via' if condition.via else ''}"

    params = sorted(role(p.role) + "?" * p.optional for p in tool.params)
    shown = sorted(entity.field(name).type for name in tool.returns)
    return f"{tool.op} {tool.measure} ({', '.join(params)}) -> {shown} if {sorted(map(test, tool.requires))}"


def shingles(spec: ToolSpec) -> frozenset[str]:
    """Runs of ``SHINGLE`` words of name, description and parameters (with types and choices)."""
    words = words_of(spec)
    return frozenset(" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1)))


def words_of(spec: ToolSpec) -> list[str]:
    """The words of name, description and parameters, in lower case; compound names fall into their words."""
    properties = spec.parameters.get("properties", {})
    required = set(spec.parameters.get("required", ()))
    params = (
        f"{name} {schema.get('type', '')} {' '.join(map(str, schema.get('enum', ())))} {'' if name in required else 'optional'}"
        for name, schema in properties.items()
    )
    return [word.lower() for word in WORD.findall(" ".join(chain((spec.name, spec.description), params)))]


def jaccard(one: frozenset[str], two: frozenset[str]) -> float:
    """The share of what either holds that both hold."""
    return len(one & two) / len(one | two)


def near_duplicates(specs: Sequence[ToolSpec], threshold: float = 0.8) -> dict[int, tuple[int, float]]:
    """For each tool with a neighbour at Jaccard ``threshold`` or more: the nearest one and their Jaccard.

    MinHash proposes pairs at a lower bar, so that few are missed; the exact Jaccard of the shingles decides.
    """
    sets = [shingles(spec) for spec in specs]
    index = MinHashLSH(threshold=threshold - 0.1, num_perm=NUM_PERM)
    hashes = MinHash.bulk([[word.encode() for word in items] for items in sets], num_perm=NUM_PERM)
    near: dict[int, tuple[int, float]] = {}
    for i, made in enumerate(hashes):
        for j in index.query(made):
            alike = jaccard(sets[i], sets[j])
            if alike >= threshold:
                near[i] = max(near.get(i, (j, alike)), (j, alike), key=lambda pair: pair[1])
                near[j] = max(near.get(j, (i, alike)), (i, alike), key=lambda pair: pair[1])
        index.insert(i, made)
    return near


@dataclass(frozen=True, slots=True)
class Breadth:
    """What a set of tools amounts to."""

    num_apps: int
    num_tools: int
    num_distinct: int
    num_skeletons: int
    share_near_duplicates: float


def breadth(apps: Iterable[App]) -> Breadth:
    """Count what the apps hold. A tool is distinct by name, description and parameters together."""
    listed = list(apps)
    specs = [spec for app in listed for spec in compile_tools(app)]
    distinct = {str(spec) for spec in specs}
    skeletons = {skeleton(app, tool) for app in listed for tool in app.tools}
    share = len(near_duplicates(specs)) / max(1, len(specs))
    return Breadth(len(listed), len(specs), len(distinct), len(skeletons), share)
