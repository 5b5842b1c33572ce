"""Every family plays an episode through the engine, token by token; what a random model says earns next to nothing."""

from __future__ import annotations

import asyncio
from functools import cache

import pytest

from openk2.agent import Budget, run_episode
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.gym import catalogue
from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer
from openk2.schema import Sampling
from openk2.text.chat import ChatFormat
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer

CONTEXT = 16_384  # byte by byte nearly: the tokenizer has learnt no words


@cache
def agent() -> tuple[ChatFormat, Engine]:
    chat = ChatFormat(Tokenizer.train([f"say {i}" for i in range(50)], TokenizerConfig(vocab_size=320)))
    config = ModelConfig(
        vocab_size=320, hidden_size=32, num_layers=2, num_dense_layers=1, intermediate_size=48,
        moe_intermediate_size=16, num_heads=2, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
        num_experts=4, num_experts_per_token=2, max_positions=CONTEXT, init_std=0.1,
    )  # fmt: skip
    model = Transformer(config).initialize(0)
    return chat, Engine(model, chat, EngineConfig(max_rows=1, max_context=CONTEXT))


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_an_agent_plays_through_the_engine(name: str) -> None:
    chat, engine = agent()
    family = catalogue.family(name)
    env = family.make()
    task = env.tasks(family.splits[-1])[0]
    play = run_episode(
        engine, env, task, seed=0, sampling=Sampling(max_tokens=8), budget=Budget(turns=2, tokens=16, context=CONTEXT),
        chat=chat,
    )  # fmt: skip
    trace = asyncio.run(play)
    assert trace.stop_reason in ("done", "turn_budget", "token_budget"), trace.info
    assert 0 < trace.num_sampled <= 16
    assert trace.score is not None
    assert not trace.score.passed
    sampled = [segment for segment in trace.segments if segment.source == "sampled"]
    assert all(len(segment.logprobs or []) == len(segment.token_ids) for segment in sampled)
