"""The scripted user: puts what a task wants into words, many ways per kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from openk2.worlds.spec import Tool

FRAMES = (
    "{act}.",
    "Please {act}.",
    "Can you {act}?",
    "{act}, please.",
    "{act} now.",
    "Next: {act}.",
    "Now {act}.",
    "Just {act}.",
)

REQUESTS: Mapping[str, tuple[str, ...]] = {
    "lookup": (
        "What is the {field} of {entity} {key}?",
        "{field} of {entity} {key}?",
        "Tell me the {field} of {entity} {key}.",
        "Please check the {field} of {entity} {key}.",
        "Which {field} does {entity} {key} have?",
        "I need {entity} {key}'s {field}.",
        "{entity} {key}: what {field}?",
    ),
    "find": (
        "Which {entity} has the {by} {value}?",
        "Find the {entity} with {by} {value}.",
        "What is the {entity} with {by} {value}?",
        "{by} is {value}: what {entity}?",
        "I need the {entity} with {by} {value}.",
        "{by} {value}: which {entity}?",
    ),
    "two_hop": (
        "What is the {field} of the {other} of {entity} {key}?",
        "Tell me the {other}'s {field} for {entity} {key}.",
        "I need the {other} {field} for {entity} {key}.",
        "{entity} {key}: what is its {other}'s {field}?",
        "{field} of the {other} of {entity} {key}?",
        "Check {entity} {key}'s {other}: what {field}?",
    ),
    "find_lookup": (
        "What is the {field} of the {entity} with {by} {value}?",
        "Tell me the {field} of the {entity} whose {by} is {value}.",
        "I need the {field} of the {entity} with {by} {value}.",
        "{entity} with {by} {value}: what {field}?",
        "{field} of the {entity} with {by} {value}?",
        "Find the {entity} with {by} {value}: what is its {field}?",
    ),
    "conditional": (
        "If {entity} {key} has {field} {state}, {act}, else tell me the {field}.",
        "Check {entity} {key}: if {field} is {state}, {act}, else say what it is.",
        "Is {entity} {key}'s {field} {state}? Then {act}, else tell me.",
        "If the {field} of {entity} {key} is {state}, {act}. If not, what is it?",
        "When {entity} {key} is {state}, {act}, else report the {field}.",
        "{entity} {key}: {act} if its {field} is {state}, else tell me the {field}.",
    ),
}

ACTS: Mapping[str, tuple[str, ...]] = {
    "set": (
        "set the {field} of {what} to {value}",
        "change the {field} of {what} to {value}",
        "make {value} the {field} of {what}",
        "give {what} the {field} {value}",
        "update {what}: {field} {value}",
    ),
    "transition": ("{verb} {what}",),
    "add": ("{verb} {amount} to the {field} of {what}", "{verb} {amount} {field} for {what}"),
    "take": ("{verb} {amount} from the {field} of {what}", "{verb} {amount} {field} for {what}"),
    "transfer": (
        "{verb} {amount} {field} from {entity} {source} to {entity} {target}",
        "{verb} {amount} {field} from {source} to {target}",
        "{verb} {amount} of the {field} of {entity} {source} to {target}",
    ),
    "create": (
        "{verb} a {entity} with {pairs}",
        "{verb} a new {entity}: {pairs}",
        "{verb} one {entity} ({pairs})",
        "{verb} {entity}: {pairs}",
    ),
}


def say_act(tool: Tool, rng: Random, slots: Mapping[str, object]) -> str:
    """The clause that asks for one writing call: "cancel order K-481"."""
    return rng.choice(ACTS[tool.op]).format(verb=tool.verb, **slots)


def say(kind: str, rng: Random, slots: Mapping[str, object]) -> str:
    """The whole request for a task of ``kind``. Kinds without words of their own ask for ``slots["act"]``."""
    return rng.choice(REQUESTS.get(kind, FRAMES)).format(**slots)
