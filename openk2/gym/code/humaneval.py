"""HumanEval: read its file, and judge programs by its tests, which never share a box with the program they judge.

The tests are asserts in Python, so they have to run somewhere. First they run on the canonical solution, in a box of their own, to learn
which calls they make. The program then answers these calls in a second box, alone. Its values, rebuilt of plain
types, are played back to the tests in a third, which holds nothing of the program.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openk2.gym.code.env import LIMITS, outcome
from openk2.gym.code.problem import REPLY
from openk2.gym.code.reply import program_in
from openk2.gym.question import QuestionEnv
from openk2.sandbox.cases import Ran, call
from openk2.sandbox.config import Limits
from openk2.sandbox.once import Runner
from openk2.sandbox.sandbox import Sandbox
from openk2.schema import Score, Task

NAME = "humaneval"
# ``check`` is called with something that looks like the function; chance is the same on every run.
_LEARN = """
{program}
{test}
def learn():
    import copy, random
    random.seed(0)
    calls = []
    def candidate(*given):
        calls.append(copy.deepcopy(list(given)))
        return {entry_point}(*given)
    check(candidate)
    return calls
"""
_PLAY = """
{program}
{test}
def play(calls, answers):
    import random
    random.seed(0)
    left = iter(zip(calls, answers))
    def candidate(*given):
        call, (ok, value) = next(left)
        assert ok and call == list(given)
        return value
    check(candidate)
    return True
"""


class HumanEvalEnv(QuestionEnv):
    """The problems of a HumanEval file, all in the split "test"; 1 for a program that passes a problem's tests, else 0.

    Parts: 1 under ``passed``, ``wrong``, ``crashed``, ``timed_out``, ``out_of_memory``, ``too_much_output`` or ``no_code``.
    """

    def __init__(self, path: Path, *, limits: Limits = LIMITS, pool: Runner | None = None) -> None:
        """Raises OSError for a missing file, ValueError for one that is no HumanEval."""
        self._limits, self._pool = limits, pool
        self._all = tuple(read(path))
        self._calls: dict[str, list[list[Any]]] = {}
        super().__init__(NAME, self._of_split, self._judge)

    def _of_split(self, split: str) -> Sequence[Task]:
        if split != "test":
            raise ValueError(f'no split "{split}" in {NAME}: there is only "test"')
        return self._all

    async def _judge(self, reply: str, task: Task) -> Score:
        problem = task.payload
        source, name = program_in(reply), problem["entry_point"]
        if name not in source:
            return outcome("no_code", 0.0)
        if f"def {name}" not in source:  # a body that goes on from the prompt
            source = problem["prompt"] + source
        calls = await self._calls_of(task)
        ran = await call(self._box(), source, name, calls)
        answers = [[one.ending == "value", one.value] for one in ran]
        program = problem["prompt"] + problem["canonical_solution"]
        played = _PLAY.format(program=program, test=problem["test"])
        [verdict] = await call(self._box(), played, "play", [[calls, answers]])
        if verdict == Ran("value", True):
            return outcome("passed", 1.0)
        failed = next((one.ending for one in ran if one.ending != "value"), "value")
        return outcome("wrong" if failed == "value" else failed, 0.0)

    async def _calls_of(self, task: Task) -> list[list[Any]]:
        """The arguments of every call that the tests make. Raises ValueError where the canonical solution fails."""
        if task.id not in self._calls:
            problem = task.payload
            program = problem["prompt"] + problem["canonical_solution"]
            learn = _LEARN.format(program=program, test=problem["test"], entry_point=problem["entry_point"])
            [learnt] = await call(self._box(), learn, "learn", [[]])
            if learnt.ending != "value":
                raise ValueError(f"{task.id}: the tests fail on the canonical solution ({learnt.ending})")
            self._calls[task.id] = learnt.value
        return self._calls[task.id]

    def _box(self) -> Sandbox:
        return Sandbox(self._limits, pool=self._pool)


def read(path: Path) -> list[Task]:
    """The problems of a file of JSON lines, gzipped or not. Raises ValueError, naming the line, for what is none."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [_task(line, f"{path}, line {number}") for number, line in enumerate(file, 1) if line.strip()]


def _task(line: str, where: str) -> Task:
    wanted = ("task_id", "prompt", "entry_point", "test", "canonical_solution")
    try:
        row = json.loads(line)
        problem = {name: row[name] for name in wanted}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{where}: not a problem of HumanEval, which has {', '.join(wanted)}: {error!r}") from None
    question = f"Complete this Python function.\n\n{problem['prompt']}\n{REPLY}"
    return Task(problem["task_id"], NAME, "completion", "test", problem | {"question": question}, tags=("humaneval",))
