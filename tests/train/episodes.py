"""The smallest thing that reward can teach: to begin an answer with one of a few tokens, twice in an episode."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from openk2.agent import Budget
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer
from openk2.schema import Message, Observation, Sampling, Score, Task, Trace
from openk2.text.chat import ChatFormat
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer
from openk2.train.rollout import roll_out

VOCAB = 320
WANTED = range(100, 140)
STOPS = frozenset(range(VOCAB // 2, VOCAB))
"""Half of all tokens end a turn: a random model seldom runs into its budget."""


class BeginEnv:
    """Two turns; the reward is the share of them that begin with a wanted token."""

    resumable: Literal["snapshot", "replay", "none"] = "none"

    def tasks(self, split: str) -> Sequence[Task]:
        return [Task(f"{split}-{i}", "begin", f"kind-{i % 2}", split, {"question": f"say {i}"}) for i in range(4)]

    async def reset(self, task: Task, seed: int) -> Observation:
        self._turns = 0
        return Observation([Message("user", task.payload["question"])], [])

    async def step(self, message: Message) -> Observation:
        self._turns += 1
        return Observation([Message("user", "again")] if self._turns < 2 else [], [], terminated=self._turns == 2)

    async def score(self, trace: Trace) -> Score:
        answers = [segment.token_ids for segment in trace.segments if segment.source == "sampled"]
        return Score(sum(answer[0] in WANTED for answer in answers) / 2)

    async def close(self) -> None:
        return None

    def snapshot(self) -> bytes:
        raise NotImplementedError

    def restore(self, state: bytes) -> None:
        raise NotImplementedError


def begin_env(_: str) -> BeginEnv:
    return BeginEnv()


def make_chat() -> ChatFormat:
    texts = [f"say {i} again {i + 1}" for i in range(50)]
    return ChatFormat(Tokenizer.train(texts, TokenizerConfig(vocab_size=VOCAB, splitting="copy")))


def make_agent(chat: ChatFormat, seed: int = 0) -> tuple[Transformer, Engine]:
    """A tiny model and an engine that samples from it."""
    config = ModelConfig(
        vocab_size=VOCAB, hidden_size=32, num_layers=2, num_dense_layers=1, intermediate_size=48,
        moe_intermediate_size=16, num_heads=2, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
        num_experts=4, num_experts_per_token=2, max_positions=128, init_std=0.1,
    )  # fmt: skip
    model = Transformer(config).initialize(seed)
    return model, Engine(model, chat, EngineConfig(max_rows=64, max_context=64), stop_ids=STOPS)


def play(
    engine: Engine, chat: ChatFormat, *, rollouts: int = 4, seed: int = 0, temperature: float = 1.0, max_tokens: int = 6
) -> list[list[Trace]]:
    """Groups of rollouts of the four prompts."""
    return asyncio.run(
        roll_out(
            engine,
            lambda _: BeginEnv(),
            BeginEnv().tasks("train"),
            rollouts_per_prompt=rollouts,
            seed=seed,
            sampling=Sampling(temperature=temperature, max_tokens=max_tokens),
            budget=Budget(turns=4, tokens=2 * max_tokens, context=64),
            chat=chat,
        )
    )
