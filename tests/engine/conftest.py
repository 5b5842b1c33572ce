from __future__ import annotations

import pytest
import torch

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer

MODEL = ModelConfig(
    vocab_size=97,
    hidden_size=32,
    num_layers=3,
    num_dense_layers=1,
    intermediate_size=64,
    moe_intermediate_size=16,
    num_heads=2,
    q_lora_rank=24,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=4,
    v_head_dim=8,
    num_experts=4,
    num_experts_per_token=2,
    max_positions=512,
    init_std=0.2,
)


@pytest.fixture(scope="session")
def model() -> Transformer:
    return Transformer(MODEL).initialize(0)


def make_engine(
    model: Transformer, *, slots: int = 8, context: int = 256, stop: frozenset[int] = frozenset(), prefill: int = 4096
) -> Engine:
    config = EngineConfig(max_rows=slots, max_context=context, prefill_tokens=prefill)
    return Engine(model, None, config, stop_ids=stop)


@torch.no_grad()
def full_logits(model: Transformer, token_ids: list[int]) -> torch.Tensor:
    """Logits [T, V] of a plain forward, in the trainer's way."""
    training = model.training
    model.eval()
    logits = model(torch.tensor([token_ids]), positions=torch.arange(len(token_ids))[None])[0]
    model.train(training)
    return logits
