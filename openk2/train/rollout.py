"""Rollouts: groups of episodes of one prompt, and their tokens as training batches.

Shapes: S samples, T sampled tokens of a sample, N sampled tokens of a micro-batch.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openk2.agent import Budget, run_episode
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.model.transformer import Transformer
from openk2.schema import Env, Policy, Sampling, Task, Trace
from openk2.text.chat import ChatFormat
from openk2.text.packing import pack
from openk2.train.step import Batch


@dataclass(frozen=True, slots=True)
class Rollouts:
    """How to play a step's prompts: everything but the model and the prompts, so that any process can."""

    chat: ChatFormat
    engine: EngineConfig
    make_env: Callable[[str], Env]
    rollouts_per_prompt: int
    seed: int
    sampling: Sampling
    budget: Budget
    weight_version: int
    stop_ids: frozenset[int] | None = None

    def play(self, model: Transformer, items: Sequence[Task]) -> list[list[Trace]]:
        """Sample from ``model`` as it is: a group of traces for each task. The engine's memory lasts as long as this."""
        engine = Engine(model, self.chat, self.engine, stop_ids=self.stop_ids)
        engine.update_weights(self.weight_version)
        groups = roll_out(
            engine,
            self.make_env,
            items,
            rollouts_per_prompt=self.rollouts_per_prompt,
            seed=self.seed,
            sampling=self.sampling,
            budget=self.budget,
            chat=self.chat,
        )
        return asyncio.run(groups)


async def roll_out(
    policy: Policy,
    make_env: Callable[[str], Env],
    tasks: Sequence[Task],
    *,
    rollouts_per_prompt: int,
    seed: int,
    sampling: Sampling,
    budget: Budget,
    chat: ChatFormat,
) -> list[list[Trace]]:
    """Play every task K times, all at once; a group of traces for each task, in order.

    All rollouts of a prompt share the environment's seed; what they sample differs.
    """

    async def play(task: Task, rollout: int) -> Trace:
        number = int.from_bytes(hashlib.sha256(f"{seed}:{task.id}:{rollout}".encode()).digest()[:6], "big")
        env = make_env(task.family)
        return await run_episode(policy, env, task, seed=number, sampling=sampling, budget=budget, chat=chat)

    flat = await asyncio.gather(*(play(task, k) for task in tasks for k in range(rollouts_per_prompt)))
    return [list(flat[i : i + rollouts_per_prompt]) for i in range(0, len(flat), rollouts_per_prompt)]


def reward(trace: Trace) -> float:
    """The score; an episode cut by a budget, or broken, earns nothing (K2 §3.2, budget control)."""
    if trace.score is None or trace.stop_reason != "done":
        return 0.0
    return trace.score.total


@dataclass(frozen=True, slots=True)
class PolicyBatch:
    """A micro-batch of traces packed in rows, with what the objective needs of each sampled token."""

    rows: Batch
    positions_N: Tensor  # where to predict from, in the flattened rows
    targets_N: Tensor
    slots_N: Tensor  # where each token's value goes in a flattened [S, T]
    old_logprobs_ST: Tensor
    mask_ST: Tensor
    advantages_S: Tensor

    def spread(self, values_N: Tensor) -> Tensor:
        """Values of sampled tokens as [S, T], zero elsewhere."""
        flat = values_N.new_zeros(self.mask_ST.numel()).index_copy(0, self.slots_N, values_N)
        return flat.view(self.mask_ST.shape)


def policy_batches(
    traces: Sequence[Trace],
    advantages: Sequence[float],
    *,
    row_length: int,
    micro_batch_rows: int,
    pad_id: int,
    device: torch.device,
) -> Iterator[PolicyBatch]:
    """Pack traces into rows and cut them into micro-batches. Traces longer than a row are left out."""
    fitting = [i for i, trace in enumerate(traces) if len(trace.token_ids) <= row_length]
    masks = [[kept for segment in traces[i].segments for kept in segment.loss_mask] for i in fitting]
    packed = pack(
        ((traces[i].token_ids, mask) for i, mask in zip(fitting, masks, strict=True)),
        row_length,
        pad_id=pad_id,
        overlong="drop",
    )
    for part in Batch.from_rows(packed, device).split(micro_batch_rows):
        positions_N, targets_N = part.targets()
        if len(positions_N) == 0:
            continue
        documents_N = part.doc_ids_BT.flatten().index_select(0, positions_N).cpu().numpy()
        # Tokens of one trace stand together, in order: a sample begins wherever the document changes.
        starts = np.flatnonzero(np.diff(documents_N, prepend=-1))
        lengths = np.diff(starts, append=len(documents_N))
        sample_N = np.repeat(np.arange(len(starts)), lengths)
        width = int(lengths.max())
        slots_N = torch.from_numpy(sample_N * width + np.arange(len(documents_N)) - np.repeat(starts, lengths))
        members = [fitting[document] for document in documents_N[starts]]
        old = [logprob for i in members for logprob in _sampled_logprobs(traces[i])]
        shape = (len(starts), width)
        mask_ST = torch.zeros(shape[0] * width, dtype=torch.bool).index_fill_(0, slots_N, True).view(shape)
        old_ST = torch.zeros(shape[0] * width).index_copy_(0, slots_N, torch.tensor(old)).view(shape)
        yield PolicyBatch(
            part,
            positions_N,
            targets_N,
            slots_N.to(device),
            old_ST.to(device),
            mask_ST.to(device),
            torch.tensor([advantages[i] for i in members], device=device),
        )


def _sampled_logprobs(trace: Trace) -> list[float]:
    return [
        logprob
        for segment in trace.segments
        if segment.logprobs is not None
        for logprob, kept in zip(segment.logprobs, segment.loss_mask, strict=True)
        if kept
    ]
