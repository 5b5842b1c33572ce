"""A user played by a model: a persona that wants something and knows a scenario's facts, and no more (K2 §3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, Structured, structured
from openk2.schema import Message, Sampling
from openk2.worlds.endpoint.quote import RULE, quoted

INSTRUCTIONS = f"""You play a person who talks to an assistant. Stay in the role given to you, and speak as that person
would, a sentence or two at a time. You know the facts of your scenario and what the assistant has told you, and nothing
else: never make up a number, code, name or date. Set done to true once you have what you wanted, or see that you will
not get it.

{RULE}"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who speaks, what for, and all that this person knows (fact → value)."""

    persona: str
    goal: str
    facts: Mapping[str, str | int]

    @property
    def known(self) -> list[str]:
        """All texts that the person has seen before the first word."""
        return [self.persona, self.goal, *self.facts, *map(str, self.facts.values())]


class Turn(BaseModel):
    """What the user says; ``done`` ends the dialogue."""

    say: str
    done: bool


async def say(
    endpoint: Endpoint, scenario: Scenario, dialogue: Sequence[Message], sampling: Sampling
) -> Structured[Turn]:
    """The user's next words. Of the dialogue the user hears what is said, never calls or their results."""
    role = {"persona": scenario.persona, "goal": scenario.goal, "facts": dict(scenario.facts)}
    heard = [{"speaker": message.role, "text": message.content} for message in _spoken(dialogue)]
    asked = f"{quoted('scenario', role)}\n{quoted('dialogue so far', heard)}\nWhat do you say next?"
    messages = [Message("system", INSTRUCTIONS), Message("user", asked)]
    return await structured(endpoint, messages, Form.of(Turn), sampling)


def _spoken(dialogue: Iterable[Message]) -> list[Message]:
    return [message for message in dialogue if message.role in ("user", "assistant") and message.content]
