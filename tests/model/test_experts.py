import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.model.experts import run_experts, run_experts_plain
from openk2.model.norm import rms_norm, rms_norm_plain
from openk2.model.swiglu import swiglu, swiglu_plain


def with_gradients(function, *inputs):
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = function(*inputs)
    weight = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(9))
    return [out.detach(), *torch.autograd.grad(out, inputs, weight)]


def assert_twins(fast, plain, *inputs):
    for got, want in zip(with_gradients(fast, *inputs), with_gradients(plain, *inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@settings(max_examples=25)
@given(
    tokens=st.integers(1, 40),
    experts=st.integers(1, 9),
    slots=st.integers(1, 4),
    used=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_fast_experts_equal_the_loop(tokens, experts, slots, used, seed):
    g = torch.Generator().manual_seed(seed)
    used = min(used, experts)  # experts beyond it see no token
    chosen = torch.rand(tokens, used, generator=g).topk(min(slots, used)).indices
    x, gates, gate_up, down = (
        torch.randn(shape, dtype=torch.double, generator=g)
        for shape in ((tokens, 10), chosen.shape, (experts, 12, 10), (experts, 10, 6))
    )
    assert_twins(
        lambda x, gates, gate_up, down: run_experts(x, chosen, gates, gate_up, down),
        lambda x, gates, gate_up, down: run_experts_plain(x, chosen, gates, gate_up, down),
        x, gates, gate_up, down,
    )  # fmt: skip


def test_an_expert_without_tokens_gets_zero_gradient():
    x, gate_up = torch.randn(4, 6), torch.randn(3, 8, 6, requires_grad=True)
    down = torch.randn(3, 6, 4, requires_grad=True)
    chosen = torch.tensor([[0, 2]] * 4)
    run_experts(x, chosen, torch.ones(4, 2), gate_up, down).sum().backward()
    assert gate_up.grad[1].count_nonzero() == 0
    assert down.grad[1].count_nonzero() == 0
    assert down.grad[0].count_nonzero() > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_experts_repeat_bit_for_bit(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        g = torch.Generator().manual_seed(0)
        x, gates = torch.randn(300, 32, generator=g), torch.rand(300, 2, generator=g)
        chosen = torch.rand(300, 8, generator=g).topk(2).indices
        w, d = torch.randn(8, 32, 32, generator=g), torch.randn(8, 32, 16, generator=g)
        first, second = (
            with_gradients(lambda x, gates, w, d: run_experts(x, chosen, gates, w, d), x, gates, w, d) for _ in range(2)
        )
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    finally:
        torch.set_num_threads(before)


def test_swiglu_twins():
    assert_twins(swiglu, swiglu_plain, torch.randn(3, 5, 8, dtype=torch.double))


def test_rms_norm_twins_also_on_a_slice():
    x, weight = torch.randn(3, 5, 12, dtype=torch.double), torch.randn(7, dtype=torch.double)
    assert_twins(
        lambda x, w: rms_norm(x[..., :7], w, 1e-5), lambda x, w: rms_norm_plain(x[..., :7], w, 1e-5), x, weight
    )
