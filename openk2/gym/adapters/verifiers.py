"""Tasksets of verifiers (0.4) that are answered in one reply: their tasks, and their own reward functions.

The rollout loop of verifiers, its runtimes, harnesses and tool servers are not used: what needs one of them is refused by name. The
reward functions run in a process (``guest.py``), usually of another interpreter: verifiers wants an openai older than ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from openk2.gym.adapters.config import VerifiersConfig
from openk2.gym.adapters.guest import GUESTS, Guest, GuestError, GuestHungError
from openk2.gym.adapters.reward import verdict
from openk2.gym.question import QuestionEnv
from openk2.gym.single_turn import split_of
from openk2.schema import Message, Observation, Score, Task

FAMILY = "verifiers"
SPLITS = ("train", "heldout")


class Verifiers(QuestionEnv):
    """The tasks of one taskset (an ``Env``)."""

    def __init__(self, config: VerifiersConfig) -> None:
        """The taskset is loaded when its tasks are asked for."""
        super().__init__(FAMILY, self._of, self._judged)
        self._config, self._guest = config, _guest(config.model_dump_json())
        self._tasks: dict[str, list[Task]] = {}

    async def reset(self, task: Task, seed: int) -> Observation:
        """Say what the task opens with, its system message included; ``seed`` changes nothing."""
        await super().reset(task, seed)
        return Observation([Message(each["role"], each["content"]) for each in task.payload["opened"]], [])

    def _of(self, split: str) -> Sequence[Task]:
        if split not in SPLITS:
            raise ValueError(f'no split "{split}" in {FAMILY}: choose "train" or "heldout"')
        if not self._tasks:
            config, found = self._config, {name: list[Task]() for name in SPLITS}
            for index, opened in enumerate(self._guest.ask_now("opened", config.score_s)):
                question = "\n\n".join(message["content"] for message in opened)
                task_id, part = f"{FAMILY}-{config.taskset}-{index}", split_of(question)
                payload = {"question": question, "opened": opened, "index": index}
                found[part].append(Task(task_id, FAMILY, config.taskset, part, payload))
            self._tasks = found
        return self._tasks[split]

    async def _judged(self, reply: str, task: Task) -> Score:
        """1 where the taskset's weighted rewards sum up to ``passes_at``. Parts: each reward; ``raised``, ``hung``."""
        if not reply.strip():
            return Score(0.0, {"answered": 0.0})
        config, given = self._config, {"index": task.payload["index"], "opened": task.payload["opened"], "reply": reply}
        try:
            rewards: dict[str, float] = await self._guest.ask("score", config.score_s, **given)
        except GuestHungError:
            return Score(0.0, {"hung": 1.0})
        except GuestError:
            return Score(0.0, {"raised": 1.0})
        found = verdict(list(rewards.values()), "sum", config.passes_at, ended=True)
        return Score(found.total, {**rewards, **found.parts})


def _source(config: VerifiersConfig) -> dict[str, object]:
    folder = None if config.folder is None else str(config.folder)
    return {"taskset": config.taskset, "folder": folder, "options": config.options, "num": config.num_tasks}


@cache
def _guest(config: str) -> Guest:
    """One process for all environments of a taskset."""
    of = VerifiersConfig.model_validate_json(config)
    return Guest(GUESTS / "verifiers.py", "verifiers", of.python, first=("load", _source(of), of.load_s))
