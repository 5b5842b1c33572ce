"""Programming problems as a family: one reply, judged by hidden cases in a box (K2 §3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import cycle, islice, product
from random import Random
from typing import Any, Literal, get_args

from pydantic import Field

from openk2.gym.code.problem import FAMILY as NAME
from openk2.gym.code.reply import program_in
from openk2.gym.code.topics import TOPICS
from openk2.gym.config import QuestionsConfig
from openk2.gym.family import Family
from openk2.gym.question import QuestionEnv, Verifier
from openk2.sandbox.cases import Ran, call, talk
from openk2.sandbox.config import MB, Limits
from openk2.sandbox.once import Runner
from openk2.sandbox.sandbox import Sandbox
from openk2.schema import Message, Observation, Score, Task

Topic = Literal["strings", "lists", "numbers", "intervals", "graphs", "dynamic", "parsing", "simulation"]
LIMITS = Limits(cpu_s=5, wall_s=10, memory_bytes=256 * MB, processes=16, disk_bytes=8 * MB, output_bytes=1 * MB)
"""Of all cases of a problem together."""

_WRITES = re.compile(r"\b(?:print|write|writelines)\b")


class CodeConfig(QuestionsConfig):
    """Programming problems. Each verdict takes a box, a fifth of a second."""

    topics: tuple[Topic, ...] = Field(default=get_args(Topic), min_length=1, description="in equal shares")
    num_train: int = Field(default=48, ge=0, description="tasks of the train split")
    num_heldout: int = Field(default=24, ge=0, description="tasks of the heldout split")


class CodeEnv(QuestionEnv):
    """Generated problems in function form and as programs that read stdin.

    A problem's split goes with its kind and its two numbers, whatever samples it shows.
    """

    def __init__(
        self, config: CodeConfig | None = None, *, limits: Limits = LIMITS, pool: Runner | None = None
    ) -> None:
        """``pool`` has bwraps ready, within its own limits; without one each verdict starts its own within ``limits``."""
        super().__init__(NAME, Problems(config or CodeConfig()).tasks, judge(limits, pool))


class Problems:
    """The tasks of both splits, made on first use; topics and levels take turns."""

    def __init__(self, config: CodeConfig) -> None:
        self._config = config
        self._tasks: dict[str, tuple[Task, ...]] = {}

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of "train" or "heldout". Raises ValueError for another split."""
        counts = {"train": self._config.num_train, "heldout": self._config.num_heldout}
        if split not in counts:
            raise ValueError(f'no split "{split}" in {NAME}: choose "train" or "heldout"')
        if split not in self._tasks:
            self._tasks[split] = tuple(islice(self._draw(split), counts[split]))
        return self._tasks[split]

    def _draw(self, split: str) -> Iterator[Task]:
        cells = [(level, topic) for level in self._config.levels for topic in self._config.topics]
        problems = {
            cell: [
                (kind, k, m)
                for kind in TOPICS[cell[1]]
                for k, m in product(kind.k, kind.m)
                if kind.level == cell[0] and kind.split(k, m) == split
            ]
            for cell in cells
        }
        rng, seen = Random(f"{self._config.seed} {split}"), set[str]()
        for level, topic in cycle([cell for cell in cells if problems[cell]]):
            kind, k, m = rng.choice(problems[level, topic])
            task = kind.task(k, m, rng, topic)
            if task.id not in seen:
                seen.add(task.id)
                yield task


def judge(limits: Limits, pool: Runner | None) -> Verifier:
    """The verifier of a task with ``function`` (None: a program that reads stdin), ``inputs`` and ``outputs``.

    1 when every hidden case is right, else 0. Parts: ``pass_rate``, and 1 under the outcome: ``passed``, ``wrong``, ``crashed``,
    ``timed_out``, ``out_of_memory``, ``too_much_output``, or ``no_code``.
    """

    async def verify(reply: str, task: Task) -> Score:
        source, function = program_in(reply), task.payload["function"]
        if not _could_answer(source, function):
            return outcome("no_code", 0.0)
        box = Sandbox(limits, pool=pool)
        inputs, outputs = task.payload["inputs"], task.payload["outputs"]
        ran = await (talk(box, source, inputs) if function is None else call(box, source, function, inputs))
        same = _same_text if function is None else same_value
        return verdict(
            ran, [one.ending == "value" and same(one.value, out) for one, out in zip(ran, outputs, strict=True)]
        )

    return verify


def verdict(ran: Sequence[Ran], right: Sequence[bool]) -> Score:
    """The score of cases that ran. The outcome is the first failure's."""
    if all(right):
        return outcome("passed", 1.0)
    failed = next(one.ending for one, is_right in zip(ran, right, strict=True) if not is_right)
    return outcome("wrong" if failed == "value" else failed, sum(right) / len(right))


def outcome(name: str, pass_rate: float) -> Score:
    """1 for every case, else 0; with the parts that say why."""
    return Score(float(name == "passed"), {"pass_rate": pass_rate, name: 1.0})


def same_value(value: Any, wanted: Any) -> bool:
    """Equal, and of the same types all the way down: True is not 1, 1.0 is not 1, a tuple is no list."""
    if type(value) is not type(wanted):
        return False
    if isinstance(value, list):
        return len(value) == len(wanted) and all(map(same_value, value, wanted))
    return bool(value == wanted)


def _same_text(said: str, wanted: str) -> bool:
    """The same lines, apart from white space at the end of a line and empty lines at the end of all."""
    return [line.rstrip() for line in said.rstrip().split("\n")] == [
        line.rstrip() for line in wanted.rstrip().split("\n")
    ]


def _could_answer(source: str, function: str | None) -> bool:
    """Whether it is worth a box: the function's name stands in it, or something that writes."""
    return bool(_WRITES.search(source)) if function is None else function in source


def _gold(task: Task, observation: Observation, rng: Random) -> list[Message]:
    return [Message("assistant", f"```python\n{task.payload['answer']}```")]


def _guess(task: Task, observation: Observation, rng: Random) -> list[Message]:
    """A program that knows the samples, and answers anything else by one of theirs."""
    function, samples = task.payload["function"], task.payload["samples"]
    other = rng.choice([wanted for _, wanted in samples])
    known = {repr(given): wanted for given, wanted in samples}
    if function is None:
        program = f"import sys\nsys.stdout.write({known!r}.get(repr(sys.stdin.read()), {other!r}))"
    else:
        program = f"def {function}(*given):\n    return {known!r}.get(repr(list(given)), {other!r})"
    return [Message("assistant", f"```python\n{program}\n```")]


FAMILY = Family(NAME, "programming problems with hidden tests, run in a sandbox", CodeEnv, _gold, _guess, chance=0.0)
