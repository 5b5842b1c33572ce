"""The episode of one question: how much of a reply is read."""

from __future__ import annotations

import asyncio

import pytest

from openk2.gym.agents import play
from openk2.gym.instructions.environment import InstructionsEnv
from openk2.gym.math import ArithmeticEnv
from openk2.gym.question import MOST_CHARACTERS, QuestionEnv
from openk2.schema import Message, Score

WRITTEN_OUT = "\ufdfa"  # one sign that stands for 18 characters


def scored(env: QuestionEnv, reply: str) -> Score:
    task = env.tasks("heldout")[0]
    trace = asyncio.run(play(env, task, lambda *_: [Message("assistant", reply)]))
    assert trace.score is not None
    return trace.score


@pytest.mark.parametrize(
    ("env", "reply", "is_read"),
    [
        (ArithmeticEnv(), "x" * MOST_CHARACTERS, True),
        (ArithmeticEnv(), "x" * (MOST_CHARACTERS + 1), False),
        (ArithmeticEnv(), WRITTEN_OUT * (MOST_CHARACTERS // 18 + 1), False),
        (InstructionsEnv(), "x " * 9_999, True),
        (InstructionsEnv(), "x " * 10_001, False),
        (InstructionsEnv(), WRITTEN_OUT * 1_112, False),
    ],
    ids=["all", "one more", "written out", "long", "too long for the family", "written out for the family"],
)
def test_what_is_too_long_is_not_judged(env: QuestionEnv, reply: str, is_read: bool) -> None:
    score = scored(env, reply)
    assert score.total == 0
    assert (score.parts == {"too_long": 1.0}) is not is_read
