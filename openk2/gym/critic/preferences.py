"""What a critic learns from: pairs with a known verdict, made with known flaws or taken from verifiable rollouts (K2 §3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Literal

from openk2.gym.critic.comparison import Verdict, ask
from openk2.gym.critic.config import CriticConfig
from openk2.gym.critic.rubrics import rubrics_of
from openk2.gym.writing.family import WritingEnv, letter_of
from openk2.gym.writing.letters import Letter
from openk2.gym.writing.writer import FLAWS, flawed, good
from openk2.schema import Message, RubricItem, Task

Better = Literal["first", "second", "tie"]

TIES = ("both_good", "both_flawed")
_SIDES: tuple[Better, Better] = ("first", "second")
_VERDICTS: dict[Better, Verdict] = {"first": "A", "second": "B", "tie": "tie"}
_MOST_TRIES = 20  # draws of a second wording before the pair is given up


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to a question, and which is better. ``why``: the flaw the worse one has, the kind of tie, or "reward"."""

    question: str
    first: str
    second: str
    better: Better
    why: str
    rubrics: tuple[RubricItem, ...]

    @property
    def swapped(self) -> Pair:
        """The same in the other order."""
        turned: dict[Better, Better] = {"first": "second", "second": "first", "tie": "tie"}
        return Pair(self.question, self.second, self.first, turned[self.better], self.why, self.rubrics)


def critique(pair: Pair, config: CriticConfig, *, swapped: bool) -> list[Message]:
    """The comparison as a dialogue to learn: the prompt that ``PairwiseCritic`` uses, and the verdict."""
    shown = pair.swapped if swapped else pair
    asked = ask(shown.question, shown.first, shown.second, shown.rubrics, config.wording)
    return [*asked, Message("assistant", _VERDICTS[shown.better])]


def preference_pairs(split: str, count: int, seed: int) -> list[Pair]:
    """Pairs over the letters of a split: good against each flaw, and ties, as often each; the better one first in half."""
    tasks = list(WritingEnv().tasks(split))
    Random(f"{seed} {split}").shuffle(tasks)  # their kinds take turns, as the reasons do
    reasons = (*FLAWS, *TIES)
    pairs: list[Pair] = []
    place = 0
    while len(pairs) < count:
        task, why = tasks[place % len(tasks)], reasons[len(pairs) % len(reasons)]
        # The better one changes sides with every round of reasons, so that no reason goes with a side.
        side = _SIDES[len(pairs) // len(reasons) % 2]
        pair = _pair(task, why, side, Random(f"{seed} {split} {place}"))
        place += 1
        if pair is not None:
            pairs.append(pair)
    return pairs


def _pair(task: Task, why: str, side: Better, rng: Random) -> Pair | None:
    """None where no two different texts were drawn."""
    letter = letter_of(task)
    better: Better = "tie" if why in TIES else side
    for _ in range(_MOST_TRIES):
        one, other = _texts(letter, why, rng)
        if one != other:
            first, second = (other, one) if better == "second" else (one, other)
            return Pair(task.payload["question"], first, second, better, why, rubrics_of(task))
    return None


def _texts(letter: Letter, why: str, rng: Random) -> tuple[str, str]:
    """Two letters, the better one first."""
    if why == "both_good":
        return good(letter, rng), good(letter, rng)
    if why == "both_flawed":
        flaw = rng.choice(FLAWS)
        return flawed(letter, flaw, rng), flawed(letter, flaw, rng)
    (flaw,) = (each for each in FLAWS if each == why)
    return good(letter, rng), flawed(letter, flaw, rng)


def labelled_pairs(task: Task, replies: Sequence[str], rewards: Sequence[float], limit: int) -> list[Pair]:
    """The closed loop: replies to a verifiable task that were rewarded differently, ``limit`` pairs at most.

    Drawn by the task's id; the better one is first in every other. None for a task without a question. Raises ValueError
    where replies and rewards differ in number.
    """
    if len(replies) != len(rewards):
        raise ValueError(f"task {task.id}: {len(replies)} replies but {len(rewards)} rewards")
    question = task.payload.get("question")
    if not isinstance(question, str):
        return []
    ranked = [
        (replies[a], replies[b]) if rewards[a] > rewards[b] else (replies[b], replies[a])
        for a, b in combinations(range(len(replies)), 2)
        if rewards[a] != rewards[b] and replies[a] != replies[b]
    ]
    # A text that a verifier rewards now so, now so, is no label.
    different, rng = sorted({pair for pair in ranked if pair[::-1] not in ranked}), Random(task.id)
    start = rng.randrange(2)
    rng.shuffle(different)
    rubrics, pairs = rubrics_of(task), list[Pair]()
    for place, (best, worst) in enumerate(different[:limit], start):
        side = _SIDES[place % 2]
        first, second = (best, worst) if side == "first" else (worst, best)
        pairs.append(Pair(question, first, second, side, "reward", rubrics))
    return pairs
