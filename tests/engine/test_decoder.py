"""The compiled step against ``Transformer.hidden`` on the same pages."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from openk2.engine import kernels
from openk2.engine.cache import LatentPages
from openk2.engine.compiled import can_compile
from openk2.engine.config import EngineConfig
from openk2.engine.decoder import Decoder
from openk2.engine.intrinsics import compiled, exp, store
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


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_of_one_prompt_see_those_before_them(dtype: torch.dtype, threads: int) -> None:
    """Sequences of several new tokens, cut between the threads wherever that falls; bfloat16 against the same in float32."""
    model = Transformer(MODEL).initialize(0).eval().to(dtype)
    new_B, cached_B = np.array([7, 1, 12, 3]), np.array([9, 20, 0, 8])
    config = EngineConfig(max_rows=4, max_context=40, page_tokens=8)
    pages_BW = np.random.default_rng(0).permutation(4 * 5).reshape(4, 5)
    latents, exact = (LatentPages(MODEL, config, device=CPU, dtype=each) for each in (dtype, torch.float32))
    generator = torch.Generator().manual_seed(0)
    latents.latents_NPGL.normal_(generator=generator)
    exact.latents_NPGL.copy_(latents.latents_NPGL)
    tokens_BT = torch.randint(0, MODEL.vocab_size, (4, 12), generator=generator)
    twin, view = copy.deepcopy(model).float(), exact.view(pages_BW, cached_B, new_B)
    hidden_BTD = twin.hidden(tokens_BT, positions=view.positions_BT, cache=view)
    expected_BV = twin.lm_head(hidden_BTD[torch.arange(4), torch.from_numpy(new_B) - 1])
    rows_T, place_T = np.repeat(np.arange(4), new_B), np.concatenate([np.arange(count) for count in new_B])
    logits_BV = Decoder(model).step(
        tokens_BT.numpy()[rows_T, place_T],
        cached_B[rows_T] + place_T + 1,
        pages_BW[rows_T],
        latents.latents_NPGL,
        np.zeros((3, len(rows_T), 2), np.int64),
        np.cumsum(new_B) - 1,
    )
    # The kernels round to bfloat16 only what the cache stores.
    close = {"atol": 2e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.01}
    torch.testing.assert_close(logits_BV, expected_BV, **close)
    held = slice(None), slice(0, latents.trash_page)
    torch.testing.assert_close(latents.latents_NPGL[held].float(), exact.latents_NPGL[held], **close)


@torch.no_grad()
def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Transformer(MODEL).initialize(0).eval()
    tokens_T = np.arange(20) % MODEL.vocab_size
    results = []
    for num_threads in (1, 2, 3, 7):
        decoder = Decoder(model)
        monkeypatch.setattr(decoder, "_num_threads", lambda _, count=num_threads: count)
        latents, chosen_NTK = torch.zeros(3, 20, 8, 20), np.zeros((3, 20, 2), np.int64)
        logits = decoder.step(tokens_T, np.full(20, 3), np.arange(20)[:, None], latents, chosen_NTK)
        results.append((logits, latents, torch.from_numpy(chosen_NTK)))
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], result, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("fails", [0, 1])
def test_a_thread_that_fails_keeps_none_waiting(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, step = Decoder(Transformer(MODEL).initialize(0).eval()), kernels.step

    def failing(*arguments: Any) -> None:
        if arguments[-2] == fails:
            raise RuntimeError("a thread's end")
        step(*arguments)

    monkeypatch.setattr(kernels, "step", failing)
    monkeypatch.setattr(decoder, "_num_threads", lambda _: 2)
    four = np.ones(4, np.int64)
    with pytest.raises(RuntimeError, match="a thread's end"):
        decoder.step(four, four, np.arange(4)[:, None], torch.zeros(3, 4, 8, 20), np.zeros((3, 4, 2), np.int64))


def _step(decoder: Decoder) -> torch.Tensor:
    """Four tokens, each the first of its sequence."""
    tokens, ones = np.arange(4), np.ones(4, np.int64)
    return decoder.step(tokens, ones, np.arange(4)[:, None], torch.zeros(3, 4, 8, 20), np.zeros((3, 4, 2), np.int64))


@torch.no_grad()
def test_more_threads_than_cores_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(Transformer(MODEL).initialize(0).eval())
    alone = _step(decoder)
    for num_threads in (2, 40, 3):
        monkeypatch.setattr(decoder, "_num_threads", lambda _, num=num_threads: num)
        assert torch.equal(_step(decoder), alone)


@torch.no_grad()
def test_weights_that_moved_are_found() -> None:
    model, other = Transformer(MODEL).initialize(0).eval(), Transformer(MODEL).initialize(1).eval()
    decoder, expected = Decoder(model), _step(Decoder(other))
    assert not torch.equal(_step(decoder), expected)
    for mine, new in zip(model.parameters(), other.parameters(), strict=True):
        mine.data = new.clone()
    assert torch.equal(_step(decoder), expected)
    model.double()
    with pytest.raises(RuntimeError, match="float32 or all bfloat16"):
        _step(decoder)


@torch.no_grad()
def test_an_interrupt_between_two_threads_keeps_none_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(Transformer(MODEL).initialize(0).eval())
    monkeypatch.setattr(decoder, "_num_threads", lambda _: 3)
    expected, pool = _step(decoder), decoder._threads(2)
    submit, started = pool.submit, list[int]()

    def interrupted(run: Any, thread: int) -> Any:
        if started:
            raise KeyboardInterrupt
        started.append(thread)
        return submit(run, thread)

    with monkeypatch.context() as patch:
        patch.setattr(pool, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _step(decoder)
    assert torch.equal(_step(decoder), expected)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_starts_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(Transformer(MODEL).initialize(0).eval())
    monkeypatch.setattr(decoder, "_num_threads", lambda _: 2)
    expected = _step(decoder)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if torch.equal(_step(decoder), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_numbers_are_rounded_to_bfloat16_as_by_pytorch(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    stored = np.zeros(len(values), np.uint16)
    _store_all(values, stored)
    expected = torch.from_numpy(values).bfloat16()
    assert torch.equal(torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16).isnan(), expected.isnan())
    known = ~expected.isnan().numpy()
    assert np.array_equal(stored[known], expected.view(torch.int16).numpy().view(np.uint16)[known])


@given(st.lists(st.floats(min_value=-200, max_value=88, width=32), min_size=1, max_size=50))
def test_the_exponential_is_that_of_numpy(numbers: list[float]) -> None:
    values = np.array([*numbers, np.nan, -np.inf], np.float32)
    found = np.zeros_like(values)
    _exp_all(values, found)
    expected = np.exp(values.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=2e-38)
    assert np.isfinite(_exp_all(np.array([np.inf, 1e30], np.float32), found[:2])).all()


@compiled
def _exp_all(values: Any, found: Any) -> Any:
    for i in range(len(values)):
        found[i] = exp(values[i])
    return found


@compiled
def _store_all(values: Any, stored: Any) -> None:
    for i in range(len(values)):
        store(stored, i, values[i])


def test_which_models_can_be_compiled() -> None:
    model = Transformer(MODEL).initialize(0)
    assert can_compile(model)
    assert can_compile(model.bfloat16())
    assert not can_compile(model.half())
    assert model.lm_head is not None
    model.float().lm_head.bfloat16()
    assert not can_compile(model)
