"""The critic in the loop: the policy or an endpoint rates groups, and verified rollouts keep it honest."""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from openk2.engine.config import EngineConfig
from openk2.gym.critic.config import CriticConfig
from openk2.gym.critic.preferences import preference_pairs
from openk2.gym.writing.family import WritingEnv
from openk2.llm.config import EndpointConfig
from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer
from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip
from openk2.schema import Message, Task, Trace
from openk2.text.chat import ChatFormat
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer
from openk2.train.config import CriticTrainingConfig, RLConfig
from openk2.train.replicas import Replicas
from openk2.train.rl.critic import CriticLoop, policy_judge
from openk2.train.rl.prompts import PromptSource
from openk2.train.rl.reinforce import NothingToLearnError, reinforce
from openk2.train.rl.rollout import Group, Player
from openk2.train.step import Compute, training_step
from openk2.train.timeline import Timeline
from tests.train.episodes import STOPS, BeginEnv, begin_env, make_agent, make_chat, make_order, make_playing

CPU = Compute(torch.device("cpu"))


@pytest.fixture(scope="module")
def letters() -> ChatFormat:
    texts = [f"{pair.question} {pair.first} Compare Question A B tie" for pair in preference_pairs("train", 300, 0)]
    return ChatFormat(Tokenizer.train(texts, TokenizerConfig(vocab_size=700, splitting="copy")))


@pytest.fixture(scope="module")
def reader(letters: ChatFormat) -> Transformer:
    config = ModelConfig(
        vocab_size=700, hidden_size=32, num_layers=2, num_dense_layers=1, intermediate_size=48,
        moe_intermediate_size=16, num_heads=2, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
        num_experts=4, num_experts_per_token=2, max_positions=512, init_std=0.1,
    )  # fmt: skip
    return Transformer(config).initialize(0)


def loop(letters: ChatFormat, **changes: Any) -> CriticLoop:
    settings: dict[str, Any] = {"families": ("writing",), "pairs_per_step": 8, "heldout_pairs": 14, "weight": 1.0}
    engine = EngineConfig(max_rows=32, max_context=512)
    config = CriticTrainingConfig(**(settings | changes))
    return CriticLoop(config, letters, engine, CPU, row_length=512, micro_batch_rows=4)


def answered(number: int, replies: dict[str, float], family: str = "math") -> Group:
    task = Task(f"q{number}", family, "sum", "rl", {"question": f"How much is {number} plus 1?"})
    finished = {
        k: Trace(
            f"q{number}.{k}", task.id, 0, "", [], [Message("assistant", reply)], [], "done", info={"reward": reward}
        )
        for k, (reply, reward) in enumerate(replies.items())
    }
    return Group(number, task, 0, finished)


def test_verified_rollouts_become_labelled_pairs(letters: ChatFormat) -> None:
    groups = [answered(i, {f"{i + 1}": 1.0, f"{i}": 0.0}) for i in range(4)]
    pairs = loop(letters).pairs([*groups, answered(9, {"10": 1.0, "5": 0.0}, family="writing")])
    assert len(pairs) == 4, "what the critic rates itself is no label"
    for pair, number in zip(pairs, range(4), strict=True):
        better = pair.first if pair.better == "first" else pair.second
        assert better == str(number + 1)
    assert loop(letters, pairs_per_step=2).pairs(groups) == pairs[:2]
    assert loop(letters, pairs_per_step=0).pairs(groups) == []
    assert loop(letters).losses([], 0) == []
    assert loop(letters, known_per_step=2).losses([], 0) != [], "known flaws are rehearsed all the same"
    assert loop(letters, known_per_step=0).losses([], 0) == []


def test_families_take_turns_and_so_do_groups(letters: ChatFormat) -> None:
    three = {"1": 1.0, "2": 0.0, "3": 0.0}
    groups = [answered(i, three, "logic") for i in range(4)] + [answered(i, three, "math") for i in (4, 5)]
    asked = [int(pair.question.split()[3]) for pair in loop(letters, pairs_per_step=9).pairs(groups)]
    assert asked == [0, 4, 1, 5, 2, 4, 3, 5, 0]


def test_the_loss_teaches_the_verdicts(letters: ChatFormat, reader: Transformer) -> None:
    it = loop(letters)
    pairs = it.pairs([answered(i, {f"{i + 1}": 1.0, f"{i}": 0.0}) for i in range(4)])
    optimizer = MuonClip.for_model(reader, OptimConfig(lr=0.01, adamw_lr=0.01, weight_decay=0.0))
    found = []
    with Replicas(reader, 1) as replicas:
        for _ in range(120):
            told = training_step(replicas, optimizer, it.losses(pairs, 0), lr_factor=1.0, balance_rate=0.0)
            found.append(told["critic_loss"])
        measured = it.measure(replicas, pairs, Timeline())
    assert found[-1] < 0.3 * found[0]
    assert measured["critic_fresh_accuracy"] >= 0.75
    for name in ("critic", "critic_fresh"):
        assert 0 <= measured[f"{name}_accuracy"] <= 1
        assert 0 <= measured[f"{name}_ece"] <= 1
        assert 0 <= measured[f"{name}_contradictions"] <= 1


def test_the_policy_rates_its_own_replies(letters: ChatFormat, reader: Transformer, tmp_path: Path) -> None:
    engine = EngineConfig(max_rows=32, max_context=512)
    playing = make_playing(
        letters, tmp_path, engine=engine, context=512, max_tokens=20, stop_ids=frozenset(range(300, 700)),
        make_env=lambda _: WritingEnv(), judged=frozenset({"writing"}),
        make_judge=functools.partial(policy_judge, chat=letters, config=CriticConfig()),
    )  # fmt: skip
    player = Player(reader, playing)
    groups = [Group(i, task, i) for i, task in enumerate(WritingEnv().tasks("train")[:3])]
    played = player.play(make_order(playing, groups))
    player.close()
    rated = [trace for group in played.finished for trace in group.finished.values() if trace.stop_reason == "done"]
    assert rated
    for trace in rated:
        assert ("reward" in trace.info) != ("dropped" in trace.info)
        assert trace.info.get("dropped") in (None, "judge_unreadable"), "a random model gives no verdicts"
        assert trace.score is not None, "what the checker says stays beside the reward"
    assert any(span.what == "judge" for span in played.spans)
    assert all(one.end <= other.start for one, other in pairwise(played.spans)), "each moment is told once"


def test_a_judge_that_is_gone_is_named_and_ends_the_stage(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    chat = make_chat()
    model, engine = make_agent(chat)
    endpoint = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="gone", max_attempts=1, attempt_s=1.0, call_s=2.0)
    critic = CriticTrainingConfig(families=("begin",), endpoint=endpoint, heldout_pairs=0)
    config = RLConfig(
        steps=40, micro_batch_rows=8, row_length=64, prompts_per_step=2, rollouts_per_prompt=4, families={"begin": 1.0},
        max_tokens=12, max_turns=3, critic=critic, optim=OptimConfig(lr=0.01),
    )  # fmt: skip
    prompts = PromptSource(
        {"begin": BeginEnv().tasks("rl")}, {"begin": 1.0}, most_prompts=2, rollouts_per_prompt=4, seed=0
    )
    with pytest.raises(NothingToLearnError, match=r"dropped/judge_unavailable"):
        reinforce(
            tmp_path, model, chat, engine.config, prompts, begin_env, None, config, CPU,
            stop_ids=STOPS, say=lambda _: None,
        )  # fmt: skip


def test_ranking_whole_groups_wants_an_endpoint() -> None:
    with pytest.raises(ValueError, match="groupwise is how an endpoint judges"):
        CriticTrainingConfig(families=("writing",), groupwise=True)
