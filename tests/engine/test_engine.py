from __future__ import annotations

import asyncio
import random

import pytest
import torch

from openk2.engine.engine import Engine
from openk2.model.transformer import Transformer
from openk2.schema import Policy, Sampled, Sampling
from tests.engine.conftest import full_logits, make_engine

GREEDY = Sampling(temperature=0.0, max_tokens=20)


def prompt(seed: int, length: int) -> list[int]:
    return [random.Random(seed * 1000 + length).randrange(1, 97) for _ in range(length)]


def recomputed(model: Transformer, ids: list[int], sampled: Sampled, temperature: float = 1.0) -> torch.Tensor:
    logits = full_logits(model, ids + sampled.token_ids)[len(ids) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(sampled.token_ids)[:, None]).squeeze(1)


def gather(engine: Engine, *calls: tuple[list[int], Sampling]) -> list[Sampled]:
    async def run() -> list[Sampled]:
        return await asyncio.gather(*(engine.sample(ids, sampling) for ids, sampling in calls))

    return asyncio.run(run())


def test_greedy_is_the_argmax_of_the_full_forward(model: Transformer) -> None:
    engine = make_engine(model)
    calls = [(prompt(i, length), GREEDY) for i, length in enumerate((1, 5, 17, 40, 41, 100))]
    for (ids, _), sampled in zip(calls, gather(engine, *calls), strict=True):
        logits = full_logits(model, ids + sampled.token_ids)[len(ids) - 1 : -1]
        assert sampled.token_ids == logits.argmax(-1).tolist()
        assert len(sampled.token_ids) == 20
        assert sampled.stop_reason == "length"
        torch.testing.assert_close(torch.tensor(sampled.logprobs), recomputed(model, ids, sampled), atol=1e-4, rtol=0)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
def test_logprobs_equal_the_trainers(model: Transformer, temperature: float) -> None:
    engine = make_engine(model, prefill=64)
    calls = [(prompt(i, 3 + 9 * i), Sampling(temperature=temperature, max_tokens=30 - i, seed=i)) for i in range(12)]
    for (ids, _), sampled in zip(calls, gather(engine, *calls), strict=True):
        expected = recomputed(model, ids, sampled, temperature)
        torch.testing.assert_close(torch.tensor(sampled.logprobs), expected, atol=1e-4, rtol=0)


def test_is_a_policy(model: Transformer) -> None:
    assert isinstance(make_engine(model), Policy)
