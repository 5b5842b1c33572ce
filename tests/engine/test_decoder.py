"""The compiled step against ``Transformer.hidden`` on the same pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from openk2.engine.cache import LatentPages
from openk2.engine.compiled import can_compile
from openk2.engine.config import EngineConfig
from openk2.engine.decoder import Decoder
from openk2.model.config import ModelConfig, YarnConfig
from openk2.model.moe import Routing
from openk2.model.transformer import Transformer
from tests.engine.conftest import MODEL

CPU = torch.device("cpu")
SHAPES: dict[str, dict[str, Any]] = {
    "as in the other tests": {},
    "no query latent": {"q_lora_rank": None},
    "no experts": {"num_experts": 0, "num_experts_per_token": 0},
    "no shared expert": {"num_shared_experts": 0},
    "two shared experts, all layers routed": {"num_shared_experts": 2, "num_dense_layers": 0},
    "expert groups": {"num_experts": 8, "num_expert_groups": 4, "num_groups_per_token": 2, "num_experts_per_token": 3},
    "scaled gates": {"routed_scaling_factor": 2.827},
    "odd widths": {"hidden_size": 33, "v_head_dim": 5, "moe_intermediate_size": 7, "kv_lora_rank": 9, "vocab_size": 51},
    "YaRN": {"yarn": YarnConfig(factor=4.0, original_max_positions=32)},
}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_latents_and_experts_are_the_models(shape: str, threads: int) -> None:
    config = MODEL.model_copy(update=SHAPES[shape])
    model = Transformer(ModelConfig(**config.model_dump())).initialize(0).eval()
    generator = torch.Generator().manual_seed(0)
    for router in model.routers():
        router.e_score_correction_bias.normal_(0, 0.1, generator=generator)
    decoder, rng = Decoder(model), np.random.default_rng(0)
    for batch in (1, 2, 5, 13):
        lengths_B = rng.integers(2, 40, batch)
        pages_BW = rng.permutation(batch * 5).reshape(batch, 5)
        latents = LatentPages(
            config, EngineConfig(max_rows=batch, max_context=40, page_tokens=8), device=CPU, dtype=torch.float32
        )
        latents.latents_NPGL.normal_(generator=generator)
        tokens_B = rng.integers(0, config.vocab_size, batch)
        start = latents.latents_NPGL.clone()
        view, routing = latents.view(pages_BW, lengths_B - 1, np.ones(batch, np.int64)), Routing()
        hidden = model.hidden(
            torch.from_numpy(tokens_B)[:, None], positions=view.positions_BT, cache=view, routing=routing
        )
        expected_BV, written = model.lm_head(hidden[:, 0]), latents.latents_NPGL.clone()
        latents.latents_NPGL.copy_(start)
        chosen_NBK = np.zeros((config.num_layers, batch, config.num_experts_per_token), np.int64)
        logits_BV = decoder.step(tokens_B, lengths_B, pages_BW, latents.latents_NPGL, chosen_NBK)
        torch.testing.assert_close(logits_BV, expected_BV, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(latents.latents_NPGL, written, atol=1e-5, rtol=1e-5)
        for layer, chosen_B1K in routing.experts.items():
            assert np.array_equal(np.sort(chosen_NBK[layer]), chosen_B1K[:, 0].sort(-1).values.numpy())


@torch.no_grad()
@pytest.mark.parametrize("switched_off", [3, 4])
def test_no_expert_is_chosen_twice(switched_off: int) -> None:
    """A bias of −∞ switches an expert off; where too few are left, others are chosen, but each once."""
    model = Transformer(MODEL).initialize(0).eval()
    for router in model.routers():
        router.e_score_correction_bias[:switched_off] = -torch.inf
    batch = 64
    ones_B, pages_BW, chosen_NBK = (
        np.ones(batch, np.int64),
        np.arange(batch)[:, None],
        np.zeros((3, batch, 2), np.int64),
    )
    Decoder(model).step(ones_B, ones_B, pages_BW, torch.zeros(3, batch, 8, 20), chosen_NBK)
    assert (chosen_NBK[1:, :, 0] != chosen_NBK[1:, :, 1]).all()
    assert ((chosen_NBK >= 0) & (chosen_NBK < 4)).all()


def test_weights_changed_in_place_are_seen() -> None:
    model = Transformer(MODEL).initialize(0).eval()
    decoder = Decoder(model)
    one, pages_BW = np.ones(1, np.int64), np.zeros((1, 1), np.int64)
    chosen_NBK = np.zeros((3, 1, 2), np.int64)
    before = decoder.step(one, one, pages_BW, torch.zeros(3, 1, 8, 20), chosen_NBK)
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0)
    torch.testing.assert_close(decoder.step(one, one, pages_BW, torch.zeros(3, 1, 8, 20), chosen_NBK), 2 * before)


def test_other_types_go_through_pytorch() -> None:
    model = Transformer(MODEL).initialize(0)
    assert can_compile(model)
    assert not can_compile(model.bfloat16())
