"""The groupwise judge: an endpoint sees all answers of a group at once and ranks them, with ties."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Any

from openk2.gym.critic.config import CriticConfig
from openk2.gym.critic.judge import JudgeFailedError, Pairing, in_time, mean_scores
from openk2.gym.critic.rubrics import rubrics_of
from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, structured
from openk2.schema import Message, Sampling, Task
from openk2.worlds.endpoint.quote import RULE, quoted

Ranking = list[list[int]]
"""Numbers of replies, best first; those of one inner list are equally good."""

_SAMPLING = Sampling(temperature=0.0, max_tokens=1024)
_INSTRUCTIONS = f"""You rank replies to the same question. Weigh them by every rubric below; replies that differ in none of them
are equally good. Their order and their numbers are chance and say nothing. {RULE}

Rubrics:
"""
_ASK = "Rank all replies, best first, by their numbers. Equally good ones share an inner list."


class GroupwiseJudge:
    """A ``GroupJudge`` behind an endpoint: one call a group. The order in which replies are shown is drawn by seed."""

    def __init__(self, endpoint: Endpoint, config: CriticConfig) -> None:
        self._endpoint, self._config = endpoint, config

    async def rewards(self, task: Task, replies: Sequence[str]) -> list[float]:
        """The share of the others that each reply is ranked above, ties counting half. Raises JudgeFailedError."""
        shown = sorted(set(replies))
        if len(shown) < 2:
            return mean_scores(replies, {})
        Random(f"{self._config.seed} {task.id}").shuffle(shown)
        async with in_time(self._config.group_s):
            answer = await structured(self._endpoint, _dialogue(task, shown), _form(len(shown)), _SAMPLING)
        if answer.value is None:
            raise JudgeFailedError("unreadable", f"{len(answer.attempts)} answers, the last: {answer.error}")
        return mean_scores(replies, _pairings(shown, answer.value))


def _dialogue(task: Task, shown: Sequence[str]) -> list[Message]:
    listed = "\n".join(f"- {rubric.name}: {rubric.spec['statement']}" for rubric in rubrics_of(task))
    replies = [quoted(str(number), reply) for number, reply in enumerate(shown, 1)]
    asked = "\n".join((quoted("question", task.payload["question"]), *replies, _ASK))
    return [Message("system", _INSTRUCTIONS + listed), Message("user", asked)]


def _form(count: int) -> Form[Ranking]:
    """A ranking that holds each number from 1 once."""
    number = {"type": "integer", "minimum": 1, "maximum": count}
    places = {"type": "array", "items": {"type": "array", "items": number, "minItems": 1}}
    schema = {
        "type": "object",
        "properties": {"ranking": places},
        "required": ["ranking"],
        "additionalProperties": False,
    }

    def read(data: Any) -> Ranking:
        ranking = [[int(number) for number in place] for place in data["ranking"]]  # 1.0 is an integer to a schema
        numbers = sorted(number for place in ranking for number in place)
        if numbers != list(range(1, count + 1)):
            raise ValueError(f"the ranking holds {numbers}: each number from 1 to {count} belongs in it once")
        return ranking

    return Form("Ranking", schema, read)


def _pairings(shown: Sequence[str], ranking: Ranking) -> dict[Pairing, float]:
    """Who stands above whom."""
    place_of = {shown[number - 1]: place for place, numbers in enumerate(ranking) for number in numbers}
    return {
        (first, second): 0.5 + 0.5 * ((place_of[first] < place_of[second]) - (place_of[first] > place_of[second]))
        for first, second in combinations(shown, 2)
    }
