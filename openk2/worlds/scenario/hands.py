"""A user who acts too: some tools are on the user's side, and the agent has to ask for them in words.

Both act in one world and one log. What the user does is what the agent's words say, right or wrong: the tool's name behind
"use", and a value behind the name of each parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from random import Random
from typing import Any

from openk2.schema import JSON, ToolCall, ToolSpec
from openk2.worlds.simulator import encode

_MOST_HELD = 3
_NEGATED = re.compile(r"(?:\bnot|n't|\bnever|\bcannot|\bwithout)\s+(?:\w+\s+)?\Z", re.IGNORECASE)
_VALUE_ENDS = re.compile(r"[.?!;,)](?=\s|$)|\n|\s(?:and|then)\s")
_REPLIES = ("Done. It shows {result}", "I did that, and it says {result}", "Okay, this is what I get: {result}")


def request(step: Mapping[str, Any]) -> str:
    """The words by which an agent asks the user for one call."""
    pairs = ", ".join(f"{name} {value}" for name, value in step["arguments"].items())
    return f"Please use {step['tool']}{' with ' if pairs else ''}{pairs}."


def heard(text: str, hands: Sequence[ToolSpec]) -> ToolCall | None:
    """The call that the words ask for, as a person would understand it; None where they ask for none."""
    for spec in hands:
        asked = re.search(rf"\b(?:use|call|run)\s+[`'\"*]*{spec.name}\b", text, re.IGNORECASE)
        if asked is not None and not _NEGATED.search(text[: asked.start()]):
            return ToolCall("", spec.name, encode(_arguments(text[asked.end() :], spec.parameters["properties"])))
    return None


def _arguments(text: str, properties: Mapping[str, Any]) -> JSON:
    if not properties:
        return {}
    names = "|".join(sorted(map(re.escape, properties), key=len, reverse=True))
    marks = list(re.finditer(rf"\b({names})\b[`'\"*]*\s*(?:[=:]|\b(?:is|to)\b)?\s*", text))
    arguments: JSON = {}
    for mark, after in zip_longest(marks, marks[1:]):
        said = text[mark.end() : after.start() if after else None]
        value = _VALUE_ENDS.split(said, maxsplit=1)[0].strip(" \t`'\",;:*(){}[]")
        is_number = properties[mark[1]]["type"] == "integer" and re.fullmatch(r"-?\d{1,15}", value)
        arguments.setdefault(mark[1], int(value) if is_number else value)
    return arguments


def reply(result: str, number: int) -> str:
    """What the user says after call ``number`` of an episode."""
    return _REPLIES[number % len(_REPLIES)].format(result=result)


def choose(steps: Sequence[Mapping[str, Any]], specs: Mapping[str, ToolSpec], rng: Random) -> tuple[str, ...]:
    """Tools of a plan that the user may hold instead of the agent: some, and none that words cannot ask for."""
    names = list(dict.fromkeys(step["tool"] for step in steps))
    for step in steps:
        call = heard(request(step), [specs[step["tool"]]])
        if call is None or call.arguments != encode(step["arguments"]):
            names = [name for name in names if name != step["tool"]]
    most = min(_MOST_HELD, len({step["tool"] for step in steps}) - 1, len(names))
    return tuple(rng.sample(names, rng.randint(1, most))) if most > 0 else ()


def instructions(hands: Sequence[ToolSpec]) -> str:
    """What an agent's prompt says of the user's side."""
    listed = "; ".join(f"{spec.name}({', '.join(_signature(spec))}): {spec.description}" for spec in hands)
    return (
        "Some tools are on the user's side and you cannot call them. Ask the user, for one call at a time, by the tool's name "
        'with the parameters and their values (those with ? may be left out), as in "Please use NAME with PARAMETER VALUE, '
        f'PARAMETER VALUE.": {listed}'
    )


def _signature(spec: ToolSpec) -> list[str]:
    return [name if name in spec.parameters["required"] else f"{name}?" for name in spec.parameters["properties"]]
