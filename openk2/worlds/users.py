"""The scripted user: puts what a task wants into words, many ways per kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from openk2.worlds.spec import Tool

FRAMES = (
    "{act}.",
    "Please {act}.",
    "Can you {act}?",
    "I need you to {act}.",
    "{act}, please.",
    "Could you {act} for me?",
    "I would like you to {act}.",
    "Go ahead and {act}.",
)

REQUESTS: Mapping[str, tuple[str, ...]] = {
    "lookup": (
        "What is the {field} of {entity} {key}?",
        "{field} of {entity} {key}?",
        "Tell me the {field} of {entity} {key}.",
        "Please check the {field} of {entity} {key}.",
        "Which {field} does {entity} {key} have?",
        "I need the {field} for {entity} {key}.",
        "For {entity} {key}, what is the {field}?",
    ),
    "find": (
        "Which {entity} has the {by} {value}?",
        "Find the {entity} with {by} {value}.",
        "What is the key of the {entity} with {by} {value}?",
        "I only know the {by}, {value}: which {entity} is it?",
        "Look for the {entity} whose {by} is {value}.",
        "{by} {value}: which {entity}?",
    ),
    "two_hop": (
        "What is the {field} of the {other} of {entity} {key}?",
        "Tell me the {field} of the {other} for {entity} {key}.",
        "I need the {other}'s {field} for {entity} {key}.",
        "{entity} {key}: what {field} does its {other} have?",
        "Which {field} has the {other} of {entity} {key}?",
        "For the {other} of {entity} {key}, give me the {field}.",
    ),
    "find_lookup": (
        "What is the {field} of the {entity} with {by} {value}?",
        "Tell me the {field} of the {entity} whose {by} is {value}.",
        "I need the {field} for the {entity} with {by} {value}.",
        "{by} {value}: what {field} does that {entity} have?",
        "Which {field} has the {entity} with {by} {value}?",
        "Find the {entity} with {by} {value} and give me its {field}.",
    ),
    "conditional": (
        "If the {field} of {entity} {key} is {state}, {act}. Otherwise tell me the {field}.",
        "Check {entity} {key}: if its {field} is {state}, {act}, else say what it is.",
        "Is the {field} of {entity} {key} {state}? Then {act}. If not, tell me the {field}.",
        "{act}, but only if the {field} of {entity} {key} is {state}; if not, what is it?",
        "Only when the {field} of {entity} {key} is {state}, {act}. Else report the {field}.",
        "See if {entity} {key} has {field} {state}. If so, {act}; otherwise give me the {field}.",
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
        "{verb} a {entity} for me, {pairs}",
    ),
}


def say_act(tool: Tool, rng: Random, slots: Mapping[str, object]) -> str:
    """The clause that asks for one writing call: "cancel order K-481"."""
    return rng.choice(ACTS[tool.op]).format(verb=tool.verb, **slots)


def say(kind: str, rng: Random, slots: Mapping[str, object]) -> str:
    """The whole request for a task of ``kind``. Kinds without words of their own ask for ``slots["act"]``."""
    return rng.choice(REQUESTS.get(kind, FRAMES)).format(**slots)
