"""One trajectory: a teacher plays a scenario, the rubric decides, and everything stands in one record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import openk2
from openk2.schema import JSON, Message, Rubric, Score
from openk2.worlds.scenario.conversation import Conversation, Scenario
from openk2.worlds.scenario.faults import FaultRates
from openk2.worlds.scenario.teacher import Teacher
from openk2.worlds.simulator import encode
from openk2.worlds.state import Rows, hash_of


def play(scenario: Scenario, *, number: int, seed: int, rates: FaultRates, sloppiness: float, recipe: str) -> JSON:
    """Trajectory ``number`` of a scenario as a record; one that failed says stage and reason."""
    episode_seed = seed_of(scenario, number, seed)
    with closing(Conversation(scenario, episode_seed, rates)) as conversation:
        messages = Teacher(scenario, seed=episode_seed, sloppiness=sloppiness).play(conversation)
        rows = conversation.world.rows()
        made = {"author": "scripted", "version": openk2.__version__, "recipe": recipe}
        return record_of(conversation, number, messages, rows, scenario.rubric, conversation.score(rows), made)


def seed_of(scenario: Scenario, number: int, seed: int) -> int:
    """What decides on the faults, and the scripted teacher's mistakes, of trajectory ``number``."""
    return (seed * 1_000_003 + number) * 7919 + int(scenario.id.rsplit("-", 1)[1])


def record_of(
    conversation: Conversation, number: int, messages: Sequence[Message], rows: Rows, rubric: Rubric, score: Score,
    provenance: JSON,
) -> JSON:  # fmt: skip
    """A conversation that has ended in ``rows``, as a record; where the score is below 1, with what was missed."""
    scenario = conversation.scenario
    record: JSON = {
        "id": f"{scenario.id}#{number}",
        "messages": [message.to_json() for message in messages],
        "tools": [tool.to_json() for tool in scenario.tools],
        "split": scenario.split,
        "kind": scenario.kind,
        "tags": list(scenario.tags),
        "rubric": rubric.to_json(),
        "score": {"total": score.total, "parts": score.parts},
        "seed": conversation.seed,
        "agent": scenario.agent.to_json(),
        "user": scenario.user.to_json(),
        "calls": [logged.to_record() for logged in conversation.world.log],
        "state": {"before": scenario.initial_hash, "after": hash_of(rows)},
        "provenance": provenance,
    }
    if not score.passed:
        missed = sorted({name.rsplit("_", 1)[0] for name, part in score.parts.items() if part < 1})
        record |= {"stage": "judge", "reason": f"missed {' + '.join(missed)}"}
    return record


def replays(record: JSON, scenario: Scenario, rates: FaultRates) -> bool:
    """Whether the recorded calls, made again, give the recorded results and end in the recorded state."""
    with closing(Conversation(scenario, record["seed"], rates)) as conversation:
        world = conversation.world
        same = scenario.initial_hash == record["state"]["before"]
        for message in record["messages"]:
            said = Message.from_json(message)
            if said.tool_calls:
                conversation.call(said.tool_calls)
            elif said.role == "assistant":
                conversation.answer(said.content)
        again: list[Any] = [logged.to_record() for logged in world.log]
        return same and encode(again) == encode(record["calls"]) and hash_of(world.rows()) == record["state"]["after"]
