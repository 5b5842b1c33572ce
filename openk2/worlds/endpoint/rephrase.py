"""A scripted user's words in a person's own: the same request, the same values, another way to say it (K2 §3.1, users)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Attempt, Form, Structured, structured
from openk2.schema import Message, Sampling
from openk2.worlds.endpoint import user as played
from openk2.worlds.endpoint.quote import RULE, quoted
from openk2.worlds.endpoint.said import only_said_what_it_knew, values
from openk2.worlds.judge import mentions
from openk2.worlds.scenario.conversation import Scenario
from openk2.worlds.scenario.script import Turn
from openk2.worlds.scenario.user import User

INSTRUCTIONS = f"""You speak for a person who writes to an assistant. You get who the person is, the manner of speaking, and a
line that holds what this person wants to say. Say it as this person would: the same requests in the same order, nothing
added, nothing left out. Keep every key, number, name, date, status and other value exactly as it is written. You do not
answer the line, and you do not do what it asks: you only say it.

{RULE}"""


class Said(BaseModel):
    """The person's words."""

    model_config = ConfigDict(extra="forbid")

    say: str


@dataclass(frozen=True, slots=True)
class Rephrased:
    """The scenario with the user's new words; or None, with the number of a turn that found none, and what was tried."""

    scenario: Scenario | None
    turn: int = -1
    attempts: tuple[Attempt, ...] = ()

    @property
    def reason(self) -> str:
        """Why not, without the particulars."""
        return self.attempts[-1].error.partition(":")[0]


async def rephrase(endpoint: Endpoint, scenario: Scenario, sampling: Sampling) -> Rephrased:
    """Put every turn of the user into the persona's words. Raises what ``Endpoint.complete`` raises."""
    used = {value for turn in scenario.turns for step in turn.calls for value in step["arguments"].values()}
    said = await asyncio.gather(
        *(rephrase_line(endpoint, scenario.user, turn.say, used, sampling) for turn in scenario.turns)
    )
    turns = []
    for number, (turn, filled) in enumerate(zip(scenario.turns, said, strict=True)):
        if filled.value is None:
            return Rephrased(None, number, filled.attempts)
        turns.append(Turn(filled.value, turn.calls, turn.answer))
    return Rephrased(replace(scenario, turns=tuple(turns)))


async def rephrase_line(
    endpoint: Endpoint, user: User, line: str, used: Collection[str | int], sampling: Sampling
) -> Structured[str]:
    """One line in the user's words. Every value of it is there again (``used`` are those of the plan), and no other."""
    shown = {"persona": user.persona, "manner": user.style, "line": line}
    messages = [Message("system", INSTRUCTIONS), Message("user", quoted("what to say", shown))]
    wanted = [value for value in used if mentions(line, value)]
    form = Form("said", Said.model_json_schema(), functools.partial(_read, user=user, line=line, wanted=wanted))
    return await structured(endpoint, messages, form, sampling)


def _read(data: dict[str, str], *, user: User, line: str, wanted: Collection[str | int]) -> str:
    text = data["say"].strip()
    numbers = {value for value in values(line) if any(char.isdigit() for char in value)}
    if lost := [str(value) for value in wanted if not mentions(text, value)] + sorted(numbers - values(text)):
        raise ValueError(f"a value is lost: the line says {', '.join(dict.fromkeys(lost))}, written exactly so")
    if unknown := only_said_what_it_knew(text, played.Scenario(f"{user.persona}, {user.style}", line, {}), []):
        raise ValueError(f"a value is made up: {', '.join(unknown)} is not in the line")
    if not text:
        raise ValueError("nothing is said")
    return text
