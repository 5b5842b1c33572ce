"""What of a step's groups can be learnt from, and what is dropped for which reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from openk2.schema import Trace
from openk2.train.objective import group_advantages
from openk2.train.rl.rollout import Group


@dataclass(frozen=True, slots=True)
class Sample:
    """A trace with its advantage over its group, and how many versions of the weights ago its first token was drawn."""

    trace: Trace
    advantage: float
    staleness: int


def learnable(
    groups: Sequence[Group],
    *,
    weight_version: int,
    max_staleness: int,
    tokenizer_hash: str,
    needs_experts: bool = False,
) -> list[Sample]:
    """The samples of a step, in order; whatever else a group holds has ``dropped`` in its ``info``, with the reason.

    A trace needs a reward, this tokenizer, and weights no newer than ``weight_version`` and at most ``max_staleness`` older; for
    router replay also the experts of all tokens but the last. A group of fewer than two such traces is empty. Where nothing
    differs and nothing is stale the gradient is 0: such samples are left out.
    """
    samples: list[Sample] = []
    for group in groups:
        usable: list[Trace] = []
        for _, trace in sorted(group.finished.items()):
            reason = trace.info.get("dropped") or _trouble(trace, weight_version, max_staleness, tokenizer_hash)
            if not reason and needs_experts and not _knows_experts(trace):
                reason = "no_experts"
            if reason:
                trace.info["dropped"] = reason
            else:
                usable.append(trace)
        if len(usable) < 2:
            for trace in usable:
                trace.info["dropped"] = "empty_group"
            continue
        rewards_S = torch.tensor([trace.info["reward"] for trace in usable], dtype=torch.float64)
        advantages = group_advantages(rewards_S, torch.zeros(len(usable), dtype=torch.int64)).tolist()
        for trace, advantage in zip(usable, advantages, strict=True):
            age = weight_version - min(_versions(trace), default=weight_version)
            trace.info |= {"advantage": advantage, "staleness": age}
            if trace.num_sampled and (advantage != 0.0 or age > 0):
                samples.append(Sample(trace, advantage, age))
    return samples


def _versions(trace: Trace) -> list[int]:
    return [segment.weight_version for segment in trace.segments if segment.weight_version is not None]


def _knows_experts(trace: Trace) -> bool:
    known = sum(len(segment.experts) for segment in trace.segments if segment.experts is not None)
    return known >= len(trace.token_ids) - 1


def _trouble(trace: Trace, weight_version: int, max_staleness: int, tokenizer_hash: str) -> str:
    if trace.tokenizer_hash != tokenizer_hash:
        return "other_tokenizer"
    if not all(math.isfinite(logprob) for segment in trace.segments for logprob in segment.logprobs or ()):
        return "no_logprobs"
    versions = _versions(trace)
    if any(version > weight_version for version in versions):
        return "future_version"
    return "stale" if versions and weight_version - min(versions) > max_staleness else ""
