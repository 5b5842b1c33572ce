"""What preconditions say: sentences for people and system prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from openk2.worlds.spec import App, Condition, Tool

ACTIONS = {"create": "create", "set": "change", "update": "update", "remove": "remove"}  # where a tool has no verb
VOWEL = re.compile(r"(?!eu|one|uni|us|ut)[aeiou]|hour|heir|honou?r")  # by sound


def policies(app: App, tool: Tool) -> list[str]:
    """A sentence for each precondition of a tool, in order."""
    return [sentence(app, tool, condition) for condition in tool.requires]


def sentence(app: App, tool: Tool, condition: Condition) -> str:
    """The condition's own policy text, or one derived: Cancel an order only if its status is pending or paid."""
    if condition.policy:
        return condition.policy
    action = (tool.verb or ACTIONS.get(tool.op, tool.op)).capitalize()
    entity = app.entity(tool.entity)
    what = f"the {entity.field(tool.field).label} of " if tool.field and tool.op != "transition" else ""
    return f"{action} {what}{with_article(entity.label)} only if {fact(app, tool, condition)}."


def fact(app: App, tool: Tool, condition: Condition) -> str:
    """What must hold, as a clause: its status is pending or paid."""
    entity = app.entity(tool.entity)
    holder = app.entity(entity.field(condition.via).ref) if condition.via else entity
    owner = f"the {entity.field(condition.via).label}'s" if condition.via else "its"
    return f"{owner} {holder.field(condition.field).label} {_predicate(condition)}"


def _predicate(condition: Condition) -> str:
    match condition.test:
        case "in":
            return f"is {listed([value.replace('_', ' ') for value in condition.values], 'or')}"
        case "filled":
            return "is filled in"
        case "at_least":
            return "covers the amount"
        case "no_less":
            return f"is at least {condition.bound}"
        case "no_more":
            return f"is at most {condition.bound}" if condition.bound else "is 0 or less"


def listed(words: Sequence[str], joint: str) -> str:
    """As people list things: a, b and c."""
    return f" {joint} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def with_article(noun: str) -> str:
    """``an order``, ``a user``."""
    return f"{'an' if VOWEL.match(noun) else 'a'} {noun}"
