"""Answers that say what the context says and nothing else, as an environment (K2 §3.2, faithfulness)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from openk2.gym.config import QuestionsConfig
from openk2.gym.faithfulness.disputes import attributed
from openk2.gym.faithfulness.features import evidence
from openk2.gym.faithfulness.judge import SupportJudge, TrainedJudge
from openk2.gym.faithfulness.pairs import SILENCES
from openk2.gym.faithfulness.reading import Clause, Reader
from openk2.gym.faithfulness.tasks import GENERATORS, relation
from openk2.gym.faithfulness.tokens import Names, hidden, sentences, tokens
from openk2.gym.faithfulness.world import Fact, seen
from openk2.gym.family import Family
from openk2.gym.question import QuestionEnv
from openk2.gym.single_turn import Questions
from openk2.schema import Message, Observation, Score, Task

MOST_CHARACTERS_A_WORD = 12  # of a reply, on average: no text hides in one endless word
UNSUPPORTED = 0.5


class FaithfulnessEnv(QuestionEnv):
    """Questions about a text or about tools' results; 1 for an answer that states all and only what is there.

    Parts: ``answered`` is the share of demanded facts stated, read by rule; ``supported`` the share of sentences that the judge takes
    for supported; ``claims`` how many claims were read; ``in_form`` is 0 for a reply that is too long or has invisible characters,
    which is judged no further.
    """

    def __init__(self, config: QuestionsConfig | None = None, judge: SupportJudge | None = None) -> None:
        """``judge`` is the packaged ``TrainedJudge`` where none is given."""
        self._judge = judge or TrainedJudge()
        super().__init__("faithfulness", Questions("faithfulness", GENERATORS, config or CONFIG).tasks, self._verified)

    async def reset(self, task: Task, seed: int) -> Observation:
        """Show the question, or the conversation in which the tools have answered already."""
        observation = await super().reset(task, seed)
        shown = task.payload.get("messages")
        return observation if shown is None else Observation([Message.from_json(each) for each in shown], [])

    async def _verified(self, reply: str, task: Task) -> Score:
        return await verify(reply, task.payload, self._judge)


CONFIG = QuestionsConfig(num_train=900, num_heldout=240)


async def verify(reply: str, payload: Mapping[str, Any], judge: SupportJudge) -> Score:
    """Judge a reply: its form by rule, each demanded fact by rule, each sentence by ``judge``. 1 exactly when nothing is missing."""
    if not in_form(reply, payload["most_words"]):
        return Score(0.0, {"in_form": 0.0, "answered": 0.0, "supported": 0.0, "claims": 0.0})
    said = sentences(reply)
    claims = evidence(payload["context"]).reader().read(said)
    answered = [any(states(claim, item) for claim in claims) for item in payload["items"]]
    doubts = await judge.unsupported(payload["context"], said)
    supported = [doubt <= UNSUPPORTED for doubt in doubts]
    parts = {
        "in_form": 1.0,
        "answered": sum(answered) / len(answered),
        "supported": sum(supported) / len(supported) if supported else 0.0,
        "claims": float(len(claims)),
    }
    return Score(float(parts["answered"] == parts["supported"] == 1.0), parts)


def in_form(reply: str, most_words: int) -> bool:
    """Whether a reply is short enough to be no copy of its context, and all of it can be seen."""
    short = len(reply) <= most_words * MOST_CHARACTERS_A_WORD and len(reply.split()) <= most_words
    return short and not hidden(reply)


def states(claim: Clause, item: Mapping[str, Any]) -> bool:
    """Whether a claim is the fact that an item demands, or says that the context lacks it."""
    topic = topic_of_relation(item["relation"])
    about = item["subject"] in claim.names and not claim.question and not claim.hedges and not claim.strange
    if not about or not (topic & claim.groups or item["value"] in claim.words):
        return False
    if item["kind"] == "missing":
        return claim.silent
    if claim.silent or claim.negations % 2 != item["denied"] or item["source"] != claim.source:
        return False
    return _value_in(claim, item["value"])


@cache
def topic_of_relation(key: str) -> frozenset[str]:
    """What the wordings of a relation are all about; what any is where they share nothing."""
    names = Names(("Subject", "Value"))
    found = [Reader(names).clauses(wording.format(s="Subject", v="Value")) for wording in relation(key).wordings]
    groups = [frozenset[str]().union(*(clause.groups for clause in clauses)) for clauses in found]
    return frozenset.intersection(*groups) or frozenset[str]().union(*groups)


def _value_in(claim: Clause, value: str) -> bool:
    """Whether a claim has a value, be it a name, a number, a day or a word."""
    numbers = {number for kind, number in tokens(value, Names()) if kind in ("number", "date")}
    if numbers:
        return numbers <= claim.values
    return value in claim.names or value in claim.words or value in claim.quantifiers


# ---------------------------------------------------------------------------------------------
# Agents by rule
# ---------------------------------------------------------------------------------------------


def _gold(task: Task, observation: Observation, rng: random.Random) -> Sequence[Message]:
    return [_answer([_said(item, item["value"], item["kind"] == "missing", rng) for item in task.payload["items"]])]


def _guess(task: Task, observation: Observation, rng: random.Random) -> Sequence[Message]:
    """Says of each demand that it is missing, or any value of its kind that the world has."""
    return [
        _answer([_said(item, rng.choice(item["options"]), rng.random() < 0.2, rng) for item in task.payload["items"]])
    ]


def _answer(said: Sequence[str]) -> Message:
    return Message("assistant", " ".join(said))


def _said(item: Mapping[str, Any], value: str, missing: bool, rng: random.Random) -> str:
    about = relation(item["relation"])
    if missing:
        return f"{rng.choice(SILENCES)} {about.asks.format(s=item['subject'], v=value)}."
    said = Fact(item["subject"], about, value, item["denied"]).said(rng.choice(seen(about)))
    return attributed(item["source"], said) if item["source"] else said


FAMILY = Family(
    "faithfulness",
    "answers that say what the context says and nothing else",
    FaithfulnessEnv,
    _gold,
    _guess,
    chance=0.08,
)
