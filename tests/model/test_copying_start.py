"""Initial weights that can already copy."""

from __future__ import annotations

import pytest
import torch

from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer

SHAPE = {
    "vocab_size": 600,
    "hidden_size": 128,
    "num_layers": 3,
    "intermediate_size": 192,
    "moe_intermediate_size": 48,
    "num_heads": 4,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "num_experts": 4,
    "num_experts_per_token": 2,
    "rope_theta": 300.0,
    "embedding_std": 0.1,
}


def loss_on_repeats(start: str, seed: int = 0) -> float:
    """Nats a token on the second and third turn of random segments: ln 600 = 6.4 for who knows nothing."""
    generator = torch.Generator().manual_seed(7)
    segment = torch.randint(0, 600, (16, 24), generator=generator)
    tokens_BT = segment.repeat(1, 3)
    positions_BT = torch.arange(72).expand(16, -1)
    model = Transformer(ModelConfig(**SHAPE, start=start)).initialize(seed).eval()
    with torch.no_grad():
        logprobs = model(tokens_BT, positions=positions_BT)[:, 24:-1].log_softmax(-1)
    return -float(logprobs.gather(2, tokens_BT[:, 25:, None]).mean())


def loss_behind_one_between(start: str, seed: int = 0) -> float:
    """Nats of b in "a x b … a y b", x and y always the same: ln 600 = 6.4 for who knows nothing."""
    generator = torch.Generator().manual_seed(7)
    pairs_B2P = torch.stack([torch.randperm(600, generator=generator)[:24].view(2, 12) for _ in range(16)])
    order = torch.randperm(12, generator=generator)

    def row(between: int, order: torch.Tensor) -> torch.Tensor:
        a_BP, b_BP = pairs_B2P[:, 0, order], pairs_B2P[:, 1, order]
        return torch.stack((a_BP, torch.full_like(a_BP, between), b_BP), dim=-1).flatten(1)

    tokens_BT = torch.cat((row(5, torch.arange(12)), row(7, order)), dim=1)
    model = Transformer(ModelConfig(**SHAPE, start=start)).initialize(seed).eval()
    with torch.no_grad():
        logits = model(tokens_BT, positions=torch.arange(72).expand(16, -1))[:, 37::3]
    return -float(logits.log_softmax(-1).gather(2, tokens_BT[:, 38::3, None]).mean())


def test_untrained_weights_copy() -> None:
    assert loss_on_repeats("normal") > 6.2
    for seed in (0, 1, 2):
        assert loss_on_repeats("copying", seed) < 0.5


def test_untrained_weights_copy_what_follows_one_token_later() -> None:
    assert loss_behind_one_between("normal") > 6.2
    for seed in (0, 1, 2):
        assert loss_behind_one_between("copying", seed) < 1.5


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (Transformer(ModelConfig(**SHAPE, start="copying")).initialize(3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "change",
    [
        {"num_layers": 1},
        {"q_lora_rank": 64},
        {"v_head_dim": 16},
        {"num_heads": 3},
        {"kv_lora_rank": 96},
        {"qk_rope_head_dim": 4},
    ],
)
def test_shapes_it_does_not_fit_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='start = "copying" wants'):
        ModelConfig(**(SHAPE | change), start="copying")
