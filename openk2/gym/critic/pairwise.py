"""The critic: a model, best the policy itself, compares the answers of a group two by two (K2 §3.2)."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from openk2.gym.critic.comparison import Verdict, ask, read_verdict
from openk2.gym.critic.config import CriticConfig
from openk2.gym.critic.judge import JudgeFailedError, Pairing, in_time, mean_scores
from openk2.gym.critic.rubrics import rubrics_of
from openk2.schema import ChatModel, Message, Policy, RubricItem, Sampling, Task
from openk2.text.chat import ChatFormat

EVEN = 1 / 3  # what a verdict is worth that the model has no ground for: one of three


@dataclass(slots=True)
class Counts:
    """What a critic has said of ``pairs``, each asked in both orders.

    ``ties``: pairs called so twice; ``contradictions``: pairs whose two verdicts oppose each other; ``unreadable``: verdicts.
    """

    pairs: int = 0
    ties: int = 0
    contradictions: int = 0
    unreadable: int = 0


class Opinion(NamedTuple):
    """A verdict in one order, and how likely A is the better of the two by it."""

    verdict: Verdict | None
    better: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both orders together: how likely the first is better; one half where they contradict each other or say tie."""

    better: float
    contradiction: bool
    unreadable: int

    @classmethod
    def of(cls, shown: Opinion, swapped: Opinion) -> Comparison:
        """Take the opinions on (first, second) and on (second, first). Unreadable ones are ties."""
        contradiction = shown.verdict == swapped.verdict and shown.verdict in ("A", "B")
        unreadable = (shown.verdict is None) + (swapped.verdict is None)
        return cls(0.5 if contradiction else (shown.better + 1 - swapped.better) / 2, contradiction, unreadable)


class PairwiseCritic:
    """A ``GroupJudge``. With a ``Policy`` and its chat format verdicts are graded by their probability, else they are whole.

    A model that only answers is asked for its word; a policy is sampled greedily, a few tokens, and ``context`` is how many it can
    read: answers that are too long together are cut. ``counts`` goes up with every pair.
    """

    def __init__(
        self, model: ChatModel, chat: ChatFormat | None, config: CriticConfig, context: int | None = None
    ) -> None:
        self._model, self._chat, self._config, self._context = model, chat, config, context
        self._sampling = Sampling(temperature=0.0, max_tokens=config.verdict_tokens)
        self.counts = Counts()

    async def rewards(self, task: Task, replies: Sequence[str]) -> list[float]:
        """Each reply's mean over its comparisons. Raises JudgeFailedError, also where no verdict of the group can be read."""
        pairs = _pairs(sorted(set(replies), key=_mixed), self._config.opponents)
        question, rubrics = task.payload["question"], rubrics_of(task)
        async with in_time(self._config.group_s), asyncio.TaskGroup() as group:
            asked = [group.create_task(self.compare(question, rubrics, *pair)) for pair in pairs]
        found = [each.result() for each in asked]
        if found and all(each.unreadable == 2 for each in found):
            raise JudgeFailedError("unreadable", f"none of {2 * len(found)} verdicts says A, B or tie")
        return mean_scores(replies, {pair: each.better for pair, each in zip(pairs, found, strict=True)})

    async def compare(self, question: str, rubrics: Sequence[RubricItem], first: str, second: str) -> Comparison:
        """Compare two answers in both orders. Raises what the model raises."""
        first, second = self._fitting(question, rubrics, first, second)
        shown, swapped = await asyncio.gather(
            self._opinion(ask(question, first, second, rubrics, self._config.wording)),
            self._opinion(ask(question, second, first, rubrics, self._config.wording)),
        )
        comparison = Comparison.of(shown, swapped)
        self.counts.pairs += 1
        self.counts.ties += shown.verdict == swapped.verdict == "tie"
        self.counts.contradictions += comparison.contradiction
        self.counts.unreadable += comparison.unreadable
        return comparison

    def _fitting(self, question: str, rubrics: Sequence[RubricItem], first: str, second: str) -> tuple[str, str]:
        """The answers, the longer ones cut where the model could not read both: special tokens are ten times as long to read as to say."""
        if self._chat is None or self._context is None:
            return first, second
        chat, room = self._chat, self._context - self._config.verdict_tokens
        words = [chat.tokenizer.encode(answer) for answer in (first, second)]
        longest, shown = max(map(len, words)), (first, second)
        while longest and (over := len(chat.prompt(ask(question, *shown, rubrics, self._config.wording))) - room) > 0:
            longest = max(0, longest - (over + 1) // 2)
            first, second = (chat.tokenizer.decode(ids[:longest]) for ids in words)
            shown = first, second
        return shown

    async def _opinion(self, messages: Sequence[Message]) -> Opinion:
        if self._chat is None or not isinstance(self._model, Policy):
            said = await self._model.complete(messages, [], self._sampling)
            return opinion(read_verdict(said.content), 1.0)
        sampled = await self._model.sample(self._chat.prompt(messages), self._sampling)
        return opinion(read_verdict(self._chat.parse(sampled.token_ids).content), math.exp(sum(sampled.logprobs)))


def opinion(verdict: Verdict | None, probability: float) -> Opinion:
    """What a verdict says of A when the model gives it that probability, and shares the rest evenly between the other two."""
    if verdict is None or verdict == "tie":
        return Opinion(verdict, 0.5)
    better = max(probability, EVEN)
    value = better + (1 - better) / 4  # B's share counts 0, a tie's 1/2
    return Opinion(verdict, value if verdict == "A" else 1 - value)


def _mixed(text: str) -> bytes:
    """Orders texts so that likes do not stand together, whatever order they came in: a ring of likes would be all ties."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _pairs(texts: Sequence[str], opponents: int | None) -> list[Pairing]:
    """All pairs, or those of neighbours in a ring, so that each text meets ``opponents`` others."""
    if opponents is None or opponents >= len(texts) - 1:
        return list(combinations(texts, 2))
    steps = range(1, opponents // 2 + 1)
    return [(text, texts[(place + step) % len(texts)]) for step in steps for place, text in enumerate(texts)]
