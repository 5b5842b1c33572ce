"""Router replay: a trainer whose routers choose otherwise still computes what the engine sampled with.

Shapes: T tokens read, K experts a token, L layers.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.model.config import ModelConfig
from openk2.model.moe import Routing
from openk2.model.transformer import Transformer
from openk2.schema import Sampled, Sampling
from openk2.train.objective import token_logprobs, token_loss

PROMPTS = [[3 * i + j for j in range(5 + 4 * i)] for i in range(4)]
TEMPERATURES = [1.0, 0.7, 1.3, 1.0]
SHAPE = ModelConfig(
    vocab_size=97,
    hidden_size=32,
    num_layers=3,
    num_dense_layers=1,
    intermediate_size=48,
    moe_intermediate_size=32,
    num_heads=2,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=8,
    num_experts=8,
    num_experts_per_token=2,
    init_std=0.2,
)


@pytest.fixture(scope="module")
def player() -> Transformer:
    """Experts that differ, and routers that hardly prefer one: a change of 1e-5 in their weights changes choices."""
    model = Transformer(SHAPE).initialize(0).eval()
    with torch.no_grad():
        for router in model.routers():
            router.weight.copy_(router.weight[:1] + 1e-5 * router.weight)
    return model


@pytest.fixture(scope="module")
def played(player: Transformer) -> list[Sampled]:
    """Answers of 24 tokens to all prompts, drawn side by side at their temperatures, with the experts of every token."""
    engine = Engine(player, None, EngineConfig(max_rows=4, max_context=64, record_experts=True), stop_ids=frozenset())

    async def play() -> list[Sampled]:
        settings = [Sampling(temperature=t, max_tokens=24, seed=i) for i, t in enumerate(TEMPERATURES)]
        asked = zip(PROMPTS, settings, strict=True)
        generations = [engine.submit(ids, sampling, experts=True) for ids, sampling in asked]
        return [await generation.result() for generation in generations]

    return asyncio.run(play())


def recorded(sampled: Sampled) -> Routing:
    """The engine's choices as the trainer replays them: for each routed layer [1, T, K]."""
    chosen_TLK = torch.from_numpy(sampled.experts).long()
    return Routing({layer: chosen_TLK[None, :, layer] for layer in range(SHAPE.num_dense_layers, SHAPE.num_layers)})


def trained_logprobs(model: Transformer, which: int, sampled: Sampled, routing: Routing) -> Tensor:
    """Of the answer's tokens, by the trainer's forward over prompt and answer."""
    prompt = PROMPTS[which]
    tokens_1T = torch.tensor([prompt + sampled.token_ids[:-1]])
    hidden_1TD = model.hidden(tokens_1T, positions=torch.arange(tokens_1T.shape[1])[None], routing=routing)
    assert model.lm_head is not None
    hidden_ND, targets_N = hidden_1TD[0, len(prompt) - 1 :], torch.tensor(sampled.token_ids)
    return token_logprobs(hidden_ND, model.lm_head.weight, targets_N, temperature=TEMPERATURES[which])


def shift_biases(model: Transformer) -> None:
    """What the balance rule does after a step, but more of it; gates do not depend on the bias."""
    for router in model.routers():
        router.e_score_correction_bias += torch.linspace(0.01, -0.01, SHAPE.num_experts)


def nudge_weights(model: Transformer) -> None:
    """Less than an optimizer step, or other arithmetic: gates hardly move, choices do."""
    generator = torch.Generator().manual_seed(1)
    for router in model.routers():
        router.weight += 2e-6 * torch.randn(router.weight.shape, generator=generator)


@pytest.mark.parametrize("change", [shift_biases, nudge_weights])
def test_replayed_experts_give_the_sampled_log_probabilities(
    player: Transformer, played: list[Sampled], change: Callable[[Transformer], None]
) -> None:
    trainer = copy.deepcopy(player)
    with torch.no_grad():
        change(trainer)
        replayed, rerouted, flipped, choices = [], [], 0, 0
        for which, sampled in enumerate(played):
            drawn_N, record, own = torch.tensor(sampled.logprobs), recorded(sampled), Routing()
            replayed.append((trained_logprobs(trainer, which, sampled, record) - drawn_N).abs())
            rerouted.append((trained_logprobs(trainer, which, sampled, own) - drawn_N).abs())
            for layer, chosen_1TK in record.experts.items():
                flipped += int((chosen_1TK.sort().values != own.experts[layer].sort().values).any(-1).sum())
                choices += chosen_1TK.shape[1]
    assert flipped > choices / 20
    assert torch.cat(replayed).max() < 1e-4
    assert torch.cat(rerouted).max() > 0.1
    assert torch.cat(rerouted).mean() > 100 * torch.cat(replayed).mean()


def test_under_the_players_own_weights_replay_changes_nothing(player: Transformer, played: list[Sampled]) -> None:
    with torch.no_grad():
        for which, sampled in enumerate(played):
            drawn_N = torch.tensor(sampled.logprobs)
            assert (trained_logprobs(player, which, sampled, recorded(sampled)) - drawn_N).abs().max() < 1e-4


def test_under_replay_routers_still_learn_and_the_loss_is_on_policy(player: Transformer, played: list[Sampled]) -> None:
    """Choices are fixed, gates are not: with replay the loss sees no drift, and its gradient reaches the routers."""
    trainer = copy.deepcopy(player)
    with torch.no_grad():
        shift_biases(trainer)

    def told(routing: Routing) -> tuple[float, float]:
        logprobs_1T = trained_logprobs(trainer, 0, played[0], routing)[None]
        old_1T = torch.tensor(played[0].logprobs)[None]
        mask_1T = torch.ones_like(old_1T, dtype=torch.bool)
        loss = token_loss(logprobs_1T, old_1T, mask_1T, torch.tensor([0.5]), tau=0.1, num_samples=1, importance_cap=1.5)
        loss.loss.backward()
        return loss.kl.item(), loss.capped.item()

    kl, capped = told(recorded(played[0]))
    assert kl < 1e-6
    assert capped == 0.0
    for router in trainer.routers():
        assert router.weight.grad is not None
        assert router.weight.grad.abs().max() > 0
    kl, capped = told(Routing())
    assert kl > 1e-3
    assert capped > 0.0
