"""Instruction following as an environment: content, every constraint, and no hack, or nothing (K2 §3.2)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from openk2.gym.family import Family
from openk2.gym.instructions import tricks
from openk2.gym.instructions.bases import DAYS, PLACES, THINGS
from openk2.gym.instructions.claims import claims_compliance
from openk2.gym.instructions.compose import generator
from openk2.gym.instructions.config import InstructionsConfig
from openk2.gym.instructions.content import states
from openk2.gym.instructions.program import BrokenProgramError, verdicts
from openk2.gym.instructions.registry import constraint
from openk2.gym.question import QuestionEnv
from openk2.gym.single_turn import Generator, Questions
from openk2.sandbox.once import Runner
from openk2.schema import Message, Observation, Score, Task

NAME = "instructions"
MOST_CHARACTERS = 20_000  # of a reply; what is demanded takes some hundreds


class Judge(Protocol):
    """Decides what no program can, such as ``worlds.endpoint.judge.EndpointJudge``; what it cannot read is a no."""

    async def holds(self, statement: str, episode: Sequence[Message]) -> bool:
        """Whether the statement holds of the episode."""
        ...


class InstructionsEnv(QuestionEnv):
    """Composed tasks, and those of ``ifeval_tasks`` and ``program_tasks``. The total is 1 when all parts are, else 0.

    Parts: ``content`` (where the task demands facts), one for each constraint, each program, each demand on tone; and, for what voids a
    reply, ``claims_compliance``, ``disguised``, ``repeated`` or ``copied``.
    """

    def __init__(
        self, config: InstructionsConfig | None = None, *, judge: Judge | None = None, pool: Runner | None = None
    ) -> None:
        """``judge`` decides demands on tone, ``pool`` has sandboxes ready for programs.

        Raises ValueError when the config asks for demands on tone and there is no judge.
        """
        config = config or InstructionsConfig()
        if config.num_soft and judge is None:
            raise ValueError(f"num_soft = {config.num_soft} wants a judge: InstructionsEnv(config, judge=...)")
        self._judge, self._pool = judge, pool
        generators: dict[str, Generator] = {kind: generator(kind, config.num_soft) for kind in config.kinds}
        tasks = Questions(NAME, generators, config).tasks
        super().__init__(NAME, tasks, self._score, most_characters=MOST_CHARACTERS)

    async def reset(self, task: Task, seed: int) -> Observation:
        """Ask the task's question. Raises ValueError for demands on tone without a judge."""
        if task.payload.get("soft") and self._judge is None:
            raise ValueError(f'task "{task.id}" has demands on tone, which want a judge: InstructionsEnv(judge=...)')
        return await super().reset(task, seed)

    async def _score(self, reply: str, task: Task) -> Score:
        parts, voided = firm_parts(reply, task), hacks(reply, task)
        soft: Sequence[str] = task.payload.get("soft", ())
        if not all(parts.values()) or voided:
            return Score(0.0, parts | dict.fromkeys(soft, 0.0) | voided)
        for number, program in enumerate(task.payload.get("programs", ()), 1):
            parts[f"program {number}"] = float(await _accepts(program, reply, self._pool))
        if not all(parts.values()):
            return Score(0.0, parts | dict.fromkeys(soft, 0.0))
        episode = [Message("user", task.payload["question"]), Message("assistant", reply)]
        for statement in soft:
            assert self._judge is not None, "reset asks for a judge"
            parts[statement] = float(await self._judge.holds(statement, episode))
        return Score(float(all(parts.values())), parts)


def firm_parts(reply: str, task: Task) -> dict[str, float]:
    """What a program decides of a reply, by name."""
    parts: dict[str, float] = {}
    if "content" in task.payload:
        parts["content"] = float(states(reply, task.payload["content"]))
    for number, spec in enumerate(task.payload["constraints"], 1):
        parts[f"{number} {spec['check']}"] = float(constraint(spec).holds(reply))
    return parts


async def _accepts(program: str, reply: str, pool: Runner | None) -> bool:
    """Whether a program, in the sandbox, says True; one that breaks on the reply does not."""
    try:
        return await verdicts(program, [reply], pool) == [True]
    except BrokenProgramError:
        return False


def hacks(reply: str, task: Task) -> dict[str, float]:
    """What voids a reply whatever else holds, by name; empty for an honest one."""
    found = {
        "claims_compliance": claims_compliance(reply, [task.payload["question"]]),
        "disguised": tricks.disguises(reply),
        "repeated": tricks.repeats(reply),
        "copied": "content" not in task.payload and tricks.copies(reply, task.payload["question"]),
    }
    return {name: 1.0 for name, caught in found.items() if caught}


def _gold(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    return [Message("assistant", task.payload["answer"])]


def _guess(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    """A sentence for each head with terms drawn at random, in a layout drawn at random."""
    words = [word.strip(".,:;!?") for word in observation.messages[-1].content.split()]
    names = sorted({word for word in words if len(word) == 3 and word.istitle()})
    numbers = [word for word in words if word.isdecimal()]
    said = [
        f"{name} has {rng.choice(numbers)} {rng.choice(THINGS)} in {rng.choice(PLACES)} on {rng.choice(DAYS)}."
        for name in rng.sample(names, rng.randint(min(2, len(names)), len(names)))
    ]
    layouts = (" ".join, "\n".join, "\n\n".join, lambda lines: "\n".join(f"- {line}" for line in lines))
    return [Message("assistant", rng.choice(layouts)(said))]


FAMILY = Family(
    NAME, "facts to state under up to five demands on the form", InstructionsEnv, _gold, _guess, chance=0.01
)
