"""The family: questions over tables as an environment."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from openk2.gym.config import QuestionsConfig
from openk2.gym.family import Family
from openk2.gym.final import FORM, final_answer
from openk2.gym.question import QuestionEnv
from openk2.gym.single_turn import Question, Questions
from openk2.gym.tables.data import Chain, draw_chain
from openk2.gym.tables.query import FORMS, Form, Query, answer_of, database_of
from openk2.gym.tables.render import Layout, rendered
from openk2.schema import Message, Observation, Score, Task

TablesKind = Literal["multi_hop", "aggregation"]

_LAYOUTS: tuple[Layout, ...] = ("markdown", "csv", "json")
_WHOLE, _FRACTION = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,4}|0|[1-9][0-9]{0,14})", r"\.[0-9]{1,6}"
_NUMBER = re.compile(rf"[-+]?(?:{_WHOLE}(?:{_FRACTION})?|{_FRACTION})")
_TRIES = 8  # questions asked of the same tables before others are drawn
_BELONGING = "What belongs to something also belongs to whatever that belongs to."


class TablesConfig(QuestionsConfig):
    """Questions over two tables at level 1, three at 2, four and one beside them at 3; level 2 has one filter, 3 two."""

    kinds: tuple[TablesKind, ...] = Field(
        default=("multi_hop", "aggregation"), min_length=1, description="question kinds, in equal shares"
    )
    num_train: int = Field(default=480, ge=0, description="tasks of the train split")
    num_heldout: int = Field(default=120, ge=0, description="tasks of the heldout split")


class TablesEnv(QuestionEnv):
    """1 for the right name or number, else 0. Parts: ``answered`` (the reply ends in a name or number) and ``correct``."""

    def __init__(self, config: TablesConfig | None = None) -> None:
        super().__init__("tables", _questions(config or TablesConfig()).tasks, verify)


@functools.cache
def _questions(config: TablesConfig) -> Questions:
    """The questions of a configuration, which all its environments share."""
    return Questions("tables", {kind: functools.partial(draw, kind) for kind in config.kinds}, config)


def draw(kind: TablesKind, rng: random.Random, level: int) -> Question:
    """A question over fresh tables to which SQLite has exactly one answer."""
    form = rng.choice(FORMS[kind])
    chain, query, answer = _answered(rng, form, level)
    shown = rng.sample([*chain.tables, *chain.aside], len(chain.tables) + len(chain.aside))
    tables = rendered(shown, rng.choice(_LAYOUTS))
    asked = f"the name of the {query.noun}" if query.noun else "the number"
    text = f"{tables}\n\n{query.text} {_BELONGING} {FORM} {asked} alone."
    facts = {"noun": query.noun}
    return Question(
        text, answer, f"{chain.tables} {query.sql}", tuple(sorted({str(cell) for cell in query.among})), facts
    )


def _answered(rng: random.Random, form: Form, level: int) -> tuple[Chain, Query, str]:
    while True:
        chain = draw_chain(rng, level + 1)
        with closing(database_of(chain)) as database:
            for _ in range(_TRIES):
                query = form(rng, chain, level - 1)
                answer = answer_of(query, database)
                if answer is not None:
                    return chain, query, answer


def judge(text: str, payload: Mapping[str, Any]) -> bool | None:
    """Whether a final answer is the right one; None where it is no name that could be, or no number."""
    noun = payload["noun"]
    if noun is None:
        match = _NUMBER.fullmatch(text)
        return Decimal(match[0].replace(",", "")) == Decimal(payload["answer"]) if match else None
    named = re.fullmatch(rf"(?:the )?(?:{noun} )?([a-z]+)", text, re.IGNORECASE | re.ASCII)
    if named is None or named[1].capitalize() not in payload["options"]:
        return None
    return bool(named[1].capitalize() == payload["answer"])


async def verify(reply: str, task: Task) -> Score:
    """Judge the final answer."""
    answer = final_answer(reply)
    right = None if answer is None else judge(answer, task.payload)
    return Score(float(bool(right)), {"answered": float(right is not None), "correct": float(bool(right))})


def _gold(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    return [Message("assistant", f"Answer: {task.payload['answer']}")]


def _guess(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    """A cell of the column that holds the answer, or else any number that is shown."""
    options = task.payload["options"] or re.findall(r"\b[1-9][0-9]*\b", task.payload["question"])
    return [Message("assistant", f"Answer: {rng.choice(options)}")]


FAMILY = Family(
    "tables", "multi-hop and aggregating questions over several tables", TablesEnv, _gold, _guess, chance=0.09
)
