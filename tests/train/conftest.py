"""A tiny model, a tiny tokenizer and rows to train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer
from openk2.optim.config import OptimConfig
from openk2.text.packing import Rows
from openk2.train.config import PretrainConfig
from openk2.train.step import Compute

VOCAB = 97


class CountingRows:
    """Endless rows drawn from (seed, step): resumable by one number."""

    def __init__(self, seed: int = 0, rows: int = 4, length: int = 24) -> None:
        self.seed, self.rows, self.length, self.step = seed, rows, length, 0

    def __iter__(self) -> Iterator[Rows]:
        while True:
            rng = np.random.default_rng([self.seed, self.step])
            self.step += 1
            starts = rng.integers(0, VOCAB, (self.rows, 1))
            tokens = (starts + np.arange(self.length) * 3) % VOCAB
            doc_ids = np.repeat([[0] * 10 + [1] * (self.length - 10)], self.rows, axis=0)
            positions = np.where(doc_ids == 0, np.arange(self.length), np.arange(self.length) - 10)
            mask = np.ones_like(tokens, dtype=bool)
            mask[:, [0, 10]] = False
            yield Rows(tokens, mask, doc_ids, positions)

    def batch_ids(self) -> str:
        return f"rows of step {self.step}"

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]


@pytest.fixture
def model() -> Transformer:
    return tiny_model()


def tiny_model(seed: int = 0) -> Transformer:
    config = ModelConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_layers=2,
        num_dense_layers=1,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_heads=2,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=8,
        num_experts=4,
        num_experts_per_token=2,
    )
    return Transformer(config).initialize(seed)


def stage_config(**changes: Any) -> PretrainConfig:
    settings: dict[str, Any] = {
        "steps": 12,
        "batch_rows": 4,
        "micro_batch_rows": 2,
        "row_length": 24,
        "optim": OptimConfig(lr=0.02),
        "checkpoint_every": 3,
    }
    return PretrainConfig(**(settings | changes))


@pytest.fixture
def cpu() -> Compute:
    return Compute(torch.device("cpu"))
