"""The family: kinds of puzzles as an environment."""

from __future__ import annotations

import random
from functools import cache
from typing import Literal

from pydantic import Field

from openk2.gym.config import QuestionsConfig
from openk2.gym.family import Family
from openk2.gym.final import final_answer
from openk2.gym.puzzles import cryptarithm, morse, riddles, sudoku, twentyfour, zebra
from openk2.gym.question import QuestionEnv
from openk2.gym.single_turn import Questions
from openk2.schema import Message, Observation, Score, Task

PuzzleKind = Literal["twentyfour", "sudoku", "cryptarithm", "morse", "riddle", "zebra"]

_KINDS = {
    "twentyfour": twentyfour.KIND,
    "sudoku": sudoku.KIND,
    "cryptarithm": cryptarithm.KIND,
    "morse": morse.KIND,
    "riddle": riddles.KIND,
    "zebra": zebra.KIND,
}


class PuzzlesConfig(QuestionsConfig):
    """Puzzles with proved solutions."""

    kinds: tuple[PuzzleKind, ...] = Field(
        default=("twentyfour", "sudoku", "cryptarithm", "morse", "riddle", "zebra"),
        min_length=1,
        description="puzzle kinds, in equal shares",
    )
    num_train: int = Field(default=360, ge=0, description="tasks of the train split")
    num_heldout: int = Field(default=90, ge=0, description="tasks of the heldout split")


class PuzzlesEnv(QuestionEnv):
    """1 for a solution, else 0. Parts: ``answered`` (the reply ends in one answer of the asked form) and ``correct``."""

    def __init__(self, config: PuzzlesConfig | None = None) -> None:
        super().__init__("puzzles", _questions(config or PuzzlesConfig()).tasks, verify)


@cache
def _questions(config: PuzzlesConfig) -> Questions:
    """The puzzles of a configuration: proving them takes seconds, so all its environments share them."""
    return Questions("puzzles", {kind: _KINDS[kind].draw for kind in config.kinds}, config)


async def verify(reply: str, task: Task) -> Score:
    """Judge the final answer as the task's kind of puzzle does."""
    kind = _KINDS[task.kind]
    answer = final_answer(reply, full_stop=kind.full_stop)
    solved = None if answer is None else kind.judge(answer, task.payload)
    return Score(float(bool(solved)), {"answered": float(solved is not None), "correct": float(bool(solved))})


def _gold(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    return [Message("assistant", f"Answer: {task.payload['answer']}")]


def _guess(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    return [Message("assistant", f"Answer: {_KINDS[task.kind].guess(task.payload, rng)}")]


FAMILY = Family(
    "puzzles", "24-game, sudoku, cryptarithms, Morse, riddles and zebra puzzles", PuzzlesEnv, _gold, _guess, chance=0.02
)
