"""reasoning-gym's datasets as single questions, judged by the dataset's own ``score_answer`` at its full mark.

Partial marks are not passed on: wrong and missing answers get 0.01 to 0.93 from some datasets. Some take a right answer among wrong
ones, some evaluate the reply as Python, some do not know their own answers: ``SAME``, ``FORMS`` and ``REFUSED`` say which, as
``python -m bench.adapters`` measured it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from types import MappingProxyType

from openk2.gym.adapters.config import ReasoningGymConfig
from openk2.gym.adapters.guest import GUESTS, Guest, GuestError, GuestHungError
from openk2.gym.question import QuestionEnv
from openk2.gym.single_turn import split_of
from openk2.schema import Message, Observation, Score, Task

FAMILY, PACKAGE = "reasoning_gym", "reasoning-gym"
SPLITS = ("train", "heldout")
_ASK = "\n\nEnd your reply with the answer alone between <answer> and </answer>."
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)

_NO_ANSWER = "its entries carry no answer that it scores as right"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "boxnet": _NO_ANSWER,
        "graph_color": _NO_ANSWER,
        "propositional_logic": _NO_ANSWER,
        "rubiks_cube": _NO_ANSWER,
        "rush_hour": _NO_ANSWER,
        "composite": "it is a mixture and needs a config: name its datasets one by one",
        "game_of_life_halting": "it scores any reply as right in the entries whose answer is True",
        "list_functions": "it makes another question each time it is asked for the same one",
        "puzzle24": "it scores any expression that makes 24 as right, whatever numbers were given",
    }
)
"""Datasets that give no verifiable reward, and why (reasoning-gym 0.1.25)."""

SAME = frozenset(
    {
        "advanced_geometry", "binary_matrix", "fraction_simplification", "gsm_symbolic", "knights_knaves", "letter_jumble",
        "spell_backward", "spiral_matrix", "string_insertion", "time_intervals", "word_sorting",
    }
)  # fmt: skip
"""Datasets with one right answer whose scoring also takes it among others, or evaluates the reply as Python: the answer itself is asked for."""

_ALGEBRA = r"(?:[\d +\-*/^().]|(?<![A-Za-z])(?:[A-Za-z]|sin|cos|tan|exp|log|sqrt|pi|a?sinh?|a?cosh?|a?tanh?|sec|csc|cot|Abs)(?![A-Za-z]))+"
FORMS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        name: re.compile(form)
        for name, form in {
            "countdown": r"(?!.*\*\*)[\d\s+\-*/()]+",
            "intermediate_integration": _ALGEBRA,
            "kakurasu": r"[01\s]+",
            "n_queens": r"[Q_\s]+",
            "polynomial_multiplication": _ALGEBRA,
            "quantum_lock": r"[A-Z](?: → [A-Z])*",
            "simple_integration": _ALGEBRA,
            "sokoban": r"[UDLR]+",
            "survo": r"[\d\s]+",
        }.items()
    }
)
"""Datasets with several right answers of which the same holds: what an answer must look like before their scoring sees it."""


class ReasoningGym:
    """The tasks of one dataset, and its verdicts."""

    def __init__(self, config: ReasoningGymConfig, guest: Guest) -> None:
        """Raises ValueError for a dataset that is refused."""
        if config.dataset in REFUSED:
            raise ValueError(f'reasoning-gym\'s "{config.dataset}" is refused: {REFUSED[config.dataset]}')
        self._config, self._guest = config, guest
        self._tasks: dict[str, list[Task]] = {}

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of "train" or "heldout", by a hash of the question; a question that comes twice is one task.

        Raises ValueError for another split or an unknown dataset, GuestError where the dataset cannot be made.
        """
        if split not in SPLITS:
            raise ValueError(f'no split "{split}" in {FAMILY}: choose "train" or "heldout"')
        if not self._tasks:
            self._tasks = self._made()
        return self._tasks[split]

    async def verify(self, reply: str, task: Task) -> Score:
        """1 where the dataset gives full marks to the reply's one answer. Parts ``raised``, ``hung``: what its scoring did."""
        answers = _ANSWER.findall(reply)
        if len(answers) != 1:
            return Score(0.0, {"answered": 0.0, "correct": 0.0})
        parts = {"answered": 1.0, "correct": 0.0}
        try:
            parts["correct"] = float(await self._correct(answers[0].strip(), task))
        except GuestHungError:
            parts["hung"] = 1.0
        except GuestError:
            parts["raised"] = 1.0
        return Score(parts["correct"], parts)

    async def _correct(self, answer: str, task: Task) -> bool:
        payload, dataset = task.payload, task.kind
        if dataset in SAME:
            return answer.split() == payload["answer"].split()
        if dataset in FORMS and not FORMS[dataset].fullmatch(answer):
            return False
        source = {name: payload[name] for name in ("name", "seed", "size", "options", "index")}
        question = payload["question"].removesuffix(_ASK)
        await self._guest.ask("prepare", self._config.make_s, **source, question=question)
        return await self._guest.ask("score", self._config.score_s, **source, answer=answer) == 1.0

    def _made(self) -> dict[str, list[Task]]:
        config = self._config
        names = self._guest.ask_now("names", config.score_s)
        if config.dataset not in names:
            raise ValueError(f'reasoning-gym has no dataset "{config.dataset}": there are {", ".join(names)}')
        source = {"name": config.dataset, "seed": config.seed, "size": config.size, "options": config.options}
        entries = self._guest.ask_now("entries", config.make_s, **source)
        made: dict[str, dict[str, Task]] = {split: {} for split in SPLITS}
        for index, entry in enumerate(entries):
            if config.dataset in FORMS and not FORMS[config.dataset].fullmatch(entry["answer"]):
                continue  # some integrals are their own answer, unsolved
            question, split = entry["question"], split_of(entry["question"])
            payload = {"question": question + _ASK, "answer": entry["answer"], **source, "index": index}
            task_id = f"{FAMILY}-{config.dataset}-{config.seed}-{index}"
            task = Task(task_id, FAMILY, config.dataset, split, payload, tags=(config.dataset,))
            made[split].setdefault(question, task)
        return {split: list(found.values()) for split, found in made.items()}


@cache
def _guest(python: str) -> Guest:
    """One process for all environments: what it answers depends on the question alone."""
    return Guest(GUESTS / "reasoning_gym.py", PACKAGE, python)


def reasoning_gym(config: ReasoningGymConfig) -> QuestionEnv:
    """The environment of one dataset. Raises ValueError for one that is refused."""
    source = ReasoningGym(config, _guest(config.python))
    return QuestionEnv(FAMILY, source.tasks, source.verify)


def gold(task: Task, observation: Observation, rng: Random) -> Sequence[Message]:
    """Says the dataset's own answer."""
    return [Message("assistant", f"<answer>{task.payload['answer']}</answer>")]
