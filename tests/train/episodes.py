"""The smallest thing that reward can teach: to begin an answer with one of a few tokens, twice in an episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer
from openk2.schema import Message, Observation, Score, Task, Trace
from openk2.text.chat import ChatFormat
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer
from openk2.train.rl.rollout import Group, Order, Player, Playing

VOCAB = 320
WANTED = range(100, 140)
STOPS = frozenset(range(VOCAB // 2, VOCAB))
"""Half of all tokens end a turn: a random model seldom runs into its budget."""


class BeginEnv:
    """Two turns; the reward is the share of them that begin with a wanted token. Resumed by its snapshot."""

    resumable: Literal["snapshot", "replay", "none"] = "snapshot"

    def __init__(self) -> None:
        self._turns = 0

    def tasks(self, split: str) -> Sequence[Task]:
        return [Task(f"{split}-{i}", "begin", f"kind-{i % 2}", split, {"question": f"say {i}"}) for i in range(16)]

    async def reset(self, task: Task, seed: int) -> Observation:
        self._turns = 0
        return Observation([Message("user", task.payload["question"])], [])

    async def step(self, message: Message) -> Observation:
        self._turns += 1
        return Observation([Message("user", "again")] if self._turns < 2 else [], [], terminated=self._turns == 2)

    async def score(self, trace: Trace) -> Score:
        return Score(wanted_share(trace))

    async def close(self) -> None:
        return None

    def snapshot(self) -> bytes:
        return bytes([self._turns])

    def restore(self, state: bytes) -> None:
        (self._turns,) = state


def wanted_share(trace: Trace) -> float:
    """How many of the two answers begin with a wanted token."""
    begins, before = 0, ""
    for segment in trace.segments:
        if segment.source == "sampled" != before:
            begins += segment.token_ids[0] in WANTED
        before = segment.source
    return begins / 2


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


def make_playing(chat: ChatFormat, folder: Path, **changes: Any) -> Playing:
    settings: dict[str, Any] = {
        "chat": chat, "engine": EngineConfig(max_rows=64, max_context=64), "make_env": begin_env, "folder": folder,
        "rollouts_per_prompt": 4, "max_turns": 4, "max_tokens": 12, "context": 64, "stop_ids": STOPS,
    }  # fmt: skip
    return Playing(**(settings | changes))


def make_order(playing: Playing, groups: Sequence[Group], **changes: Any) -> Order:
    settings: dict[str, Any] = {
        "playing": playing, "process": 0, "weight_version": 0, "oldest_version": 0, "temperature": 1.0,
        "groups": groups, "quota": len(groups),
    }  # fmt: skip
    return Order(**(settings | changes))


def make_groups(count: int = 4, *, seed: int = 0, first: int = 0) -> list[Group]:
    return [Group(first + i, task, 1000 * seed + i) for i, task in enumerate(BeginEnv().tasks("train")[:count])]


def play_groups(model: Transformer, playing: Playing, *, seed: int = 0, temperature: float = 1.0) -> list[list[Trace]]:
    """Groups of rollouts of four prompts, played to the end."""
    player = Player(model, playing)
    played = player.play(make_order(playing, make_groups(seed=seed), temperature=temperature))
    player.close()
    return [[trace for _, trace in sorted(group.finished.items())] for group in played.finished]
