"""The critic in the loop: who rates groups, what the critic learns from verified rollouts, and how good it is (K2 §3.2)."""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest

import torch

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.gym.critic.config import CriticConfig
from openk2.gym.critic.judge import GroupJudge, JudgeFailedError, in_time
from openk2.gym.critic.measure import summary
from openk2.gym.critic.pairwise import Comparison, PairwiseCritic
from openk2.gym.critic.preferences import Pair, critique, labelled_pairs, preference_pairs
from openk2.llm.config import EndpointConfig
from openk2.model.transformer import Transformer
from openk2.text.chat import ChatFormat
from openk2.text.packing import pack
from openk2.train.config import CriticTrainingConfig
from openk2.train.replicas import Replicas
from openk2.train.rl.rollout import Group, reply_of
from openk2.train.step import Batch, Compute, language_model_losses
from openk2.train.timeline import Timeline
from openk2.train.twin import Loss

KNOWN_PAIRS = 500  # that rehearsal goes through, again and again


@asynccontextmanager
async def policy_judge(engine: Engine, *, chat: ChatFormat, config: CriticConfig) -> AsyncIterator[GroupJudge]:
    """The policy rates its own replies, two by two."""
    yield PairwiseCritic(engine, chat, config, engine.config.max_context)


@asynccontextmanager
async def endpoint_judge(
    engine: Engine, *, endpoint: EndpointConfig, groupwise: bool, config: CriticConfig
) -> AsyncIterator[GroupJudge]:
    """Another model rates the policy's replies: two by two, or all of a group at once."""
    from openk2.gym.critic.groupwise import GroupwiseJudge  # both want an extra
    from openk2.llm.endpoint import Endpoint

    async with Endpoint(endpoint) as model:
        yield GroupwiseJudge(model, config) if groupwise else PairwiseCritic(model, None, config)


class CriticLoop:
    """Keeps the policy a good critic: labelled pairs from its own verified rollouts join each step, and held-out pairs measure it."""

    def __init__(
        self,
        config: CriticTrainingConfig,
        chat: ChatFormat,
        engine: EngineConfig,
        compute: Compute,
        *,
        row_length: int,
        micro_batch_rows: int,
    ) -> None:
        self._config, self._chat, self._engine, self._compute = config, chat, engine, compute
        self._row_length, self._micro_batch_rows = row_length, micro_batch_rows
        self._heldout = preference_pairs("heldout", config.heldout_pairs, 0)
        self._known = preference_pairs("train", KNOWN_PAIRS, 0)

    def pairs(self, groups: Iterable[Group]) -> list[Pair]:
        """What this step's verified groups say: of two replies, the one that earned more is better.

        Families take turns, and a group gives a second pair when all of its family have given a first.
        """
        found: dict[str, list[list[Pair]]] = defaultdict(list)
        for group in groups:
            traces = [trace for _, trace in sorted(group.finished.items()) if "dropped" not in trace.info]
            traces = [trace for trace in traces if trace.stop_reason == "done"]
            if group.task.family not in self._config.families and len(traces) > 1:
                rewards = [trace.info["reward"] for trace in traces]
                pairs = labelled_pairs(group.task, [reply_of(trace) for trace in traces], rewards, 2)
                found[group.task.family].append([pair for pair in pairs if self._fits(pair)])
        return _in_turns([_in_turns(of_family) for of_family in found.values()])[: self._config.pairs_per_step]

    def _fits(self, pair: Pair) -> bool:
        """Whether it can be asked about, and learnt from, in a row."""
        dialogue = self._chat.encode(critique(pair, self._config.compare, swapped=False))
        room = min(self._row_length, self._engine.max_context) - self._config.compare.verdict_tokens
        return len(dialogue.token_ids) <= room

    def losses(self, pairs: Sequence[Pair], step: int) -> list[Loss]:
        """Next-token loss on the verdicts, each pair in both orders; pairs with known flaws are rehearsed beside them.

        Alone, pairs that the critic cannot tell apart make it forget within some steps those that it can.
        """
        count = len(pairs) if self._config.known_per_step is None else self._config.known_per_step
        first = step * max(count, self._config.pairs_per_step)
        known = [self._known[(first + i) % len(self._known)] for i in range(count)]
        dialogues = [
            self._chat.encode(critique(pair, self._config.compare, swapped=swapped))
            for pair in (*pairs, *known)
            for swapped in (False, True)
        ]
        sequences = ((dialogue.token_ids, dialogue.loss_mask) for dialogue in dialogues)
        rows = pack(sequences, self._row_length, pad_id=self._chat.tokenizer.pad_id, overlong="drop")
        if not len(rows.tokens):
            return []
        batch = Batch.from_rows(rows, self._compute.device)
        return language_model_losses(
            batch,
            self._compute,
            micro_batch_rows=self._micro_batch_rows,
            weight=self._config.weight,
            name="critic_loss",
        )

    def measure(self, replicas: Replicas, fresh: Sequence[Pair], timeline: Timeline) -> dict[str, float]:
        """How good the critic is on held-out pairs of known flaws, and on this step's own, which it has not learnt from yet.

        Where it could not be asked, ``…_unmeasured`` is 1.
        """
        told: dict[str, float] = {}
        with timeline.span("judge"):
            for name, pairs in (("critic", self._heldout), ("critic_fresh", fresh)):
                if not pairs:
                    continue
                processes = replicas.num_processes
                shares = [pairs[process::processes] for process in range(processes)]
                compare = functools.partial(_compare, chat=self._chat, engine=self._engine, config=self._config.compare)
                found = [each for each in replicas.share_out(compare, shares) if each is not None]
                if len(found) < processes:
                    told[f"{name}_unmeasured"] = 1.0
                    continue
                measured = summary(
                    [pair for share in shares for pair in share], [each for share in found for each in share]
                )
                told |= {
                    f"{name}_accuracy": measured.accuracy,
                    f"{name}_ece": measured.calibration_error,
                    f"{name}_overconfidence": measured.overconfidence,
                    f"{name}_contradictions": measured.contradictions,
                }
        return told

    def is_due(self, step: int) -> bool:
        """Whether the critic is measured at this step: never where an endpoint judges, and not the policy."""
        return self._config.endpoint is None and step % self._config.measure_every == 0


def _in_turns(some: Sequence[Sequence[Pair]]) -> list[Pair]:
    """The first of each, then the second of each, and so on."""
    return [pair for turn in zip_longest(*some) for pair in turn if pair is not None]


def _compare(
    model: Transformer,
    shares: Sequence[Sequence[Pair]],
    *,
    chat: ChatFormat,
    engine: EngineConfig,
    config: CriticConfig,
) -> list[list[Comparison] | None]:
    critic = PairwiseCritic(Engine(model, chat, engine), chat, config, engine.max_context)

    async def compare(pairs: Sequence[Pair]) -> list[Comparison] | None:
        try:
            async with in_time(config.group_s):
                return list(
                    await asyncio.gather(*(critic.compare(p.question, p.rubrics, p.first, p.second) for p in pairs))
                )
        except JudgeFailedError:
            return None

    with torch.no_grad():
        return [asyncio.run(compare(pairs)) for pairs in shares]
