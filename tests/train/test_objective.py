"""The objectives against their formulas written out, finite differences, and one big batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from openk2.train.objective import (
    PolicyLoss,
    cross_entropy,
    group_advantages,
    mixed_group_share,
    plain_cross_entropy,
    plain_token_logprobs,
    sequence_loss,
    token_logprobs,
    token_loss,
)

TAU = 0.3
Form = Callable[..., PolicyLoss]


def batch(seed: int = 0, num_samples: int = 8, length: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (num_samples,), generator=generator)
    rewards = torch.randint(0, 3, (num_samples,), generator=generator).double() / 2
    return {
        "logprobs": -torch.rand(num_samples, length, generator=generator, dtype=torch.float64) * 3,
        "old": -torch.rand(num_samples, length, generator=generator, dtype=torch.float64) * 3,
        "mask": torch.arange(length)[None] < lengths[:, None],
        "rewards": rewards,
        "groups": torch.tensor([7, 7, 3, 3] * (num_samples // 4)),
    }


def literal_sequence(logprobs: Tensor, old: Tensor, mask: Tensor, rewards: Tensor, groups: Tensor) -> Tensor:
    """E_x [1/K Σ_i (r_i - r̄ - τ log(π(y_i) / π_old(y_i)))²], written as in the paper."""
    prompts = sorted(set(groups.tolist()))
    expectation = torch.zeros((), dtype=torch.float64)
    for prompt in prompts:
        rows = [row for row in range(len(groups)) if groups[row] == prompt]
        mean_reward = sum(rewards[row] for row in rows) / len(rows)
        inner = torch.zeros((), dtype=torch.float64)
        for row in rows:
            log_ratio = sum(logprobs[row, t] - old[row, t] for t in range(logprobs.shape[1]) if mask[row, t])
            inner = inner + (rewards[row] - mean_reward - TAU * log_ratio) ** 2
        expectation = expectation + inner / len(rows)
    return expectation / len(prompts)


def literal_token(logprobs: Tensor, old: Tensor, mask: Tensor, rewards: Tensor, groups: Tensor) -> Tensor:
    """1/K Σ_i 1/|y_i| Σ_t (A_i - τ log-ratio_it)², the mean over prompts."""
    prompts = sorted(set(groups.tolist()))
    expectation = torch.zeros((), dtype=torch.float64)
    for prompt in prompts:
        rows = [row for row in range(len(groups)) if groups[row] == prompt]
        mean_reward = sum(rewards[row] for row in rows) / len(rows)
        inner = torch.zeros((), dtype=torch.float64)
        for row in rows:
            steps = [t for t in range(logprobs.shape[1]) if mask[row, t]]
            errors = [(rewards[row] - mean_reward - TAU * (logprobs[row, t] - old[row, t])) ** 2 for t in steps]
            inner = inner + sum(errors) / len(steps)
        expectation = expectation + inner / len(rows)
    return expectation / len(prompts)


FORMS = [(sequence_loss, literal_sequence), (token_loss, literal_token)]


def ours(form: Form, data: dict[str, Tensor], logprobs: Tensor) -> Tensor:
    advantages = group_advantages(data["rewards"], data["groups"])
    return form(logprobs, data["old"], data["mask"], advantages, tau=TAU, num_samples=len(advantages)).loss


@pytest.mark.parametrize(("form", "literal"), FORMS)
def test_value_and_gradient_are_those_of_the_literal_formula(form: Form, literal: Callable[..., Tensor]) -> None:
    data = batch()
    mine = data["logprobs"].clone().requires_grad_()
    theirs = data["logprobs"].clone().requires_grad_()
    loss = ours(form, data, mine)
    expected = literal(theirs, data["old"], data["mask"], data["rewards"], data["groups"])
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    loss.backward()
    expected.backward()
    assert theirs.grad is not None
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-15)
    assert theirs.grad.abs().max() > 1e-2


@pytest.mark.parametrize("form", [sequence_loss, token_loss])
def test_gradient_agrees_with_finite_differences(form: Form) -> None:
    data = batch(seed=1, num_samples=4, length=3)
    logprobs = data["logprobs"].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: ours(form, data, values), (logprobs,))


@pytest.mark.parametrize("form", [sequence_loss, token_loss])
def test_on_policy_gradient_is_two_tau_times_the_policy_gradient(form: Form) -> None:
    data = batch(seed=2)
    data["old"] = data["logprobs"].clone()
    advantages = group_advantages(data["rewards"], data["groups"])
    logprobs = data["logprobs"].clone().requires_grad_()
    ours(form, data, logprobs).backward()
    weight = data["mask"].double()
    if form is token_loss:
        weight = weight / weight.sum(1, keepdim=True)
    policy_gradient = -(advantages[:, None] * weight) / len(advantages)
    torch.testing.assert_close(logprobs.grad, 2 * TAU * policy_gradient, rtol=1e-12, atol=1e-15)
    assert policy_gradient.abs().max() > 0


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    cut=st.integers(1, 7),
    form=st.sampled_from([sequence_loss, token_loss]),
    cap=st.sampled_from([None, 1.0, 2.5]),
)
def test_micro_batches_add_up_to_the_full_batch(seed: int, cut: int, form: Form, cap: float | None) -> None:
    data = batch(seed)
    advantages = group_advantages(data["rewards"], data["groups"])

    def run(rows: slice, logprobs: Tensor) -> PolicyLoss:
        parts = (logprobs[rows], data["old"][rows], data["mask"][rows], advantages[rows])
        result = form(*parts, tau=TAU, num_samples=len(advantages), importance_cap=cap)
        result.loss.backward()
        return result

    whole, cut_up = (data["logprobs"].clone().requires_grad_() for _ in range(2))
    full = run(slice(None), whole)
    halves = [run(rows, cut_up) for rows in (slice(0, cut), slice(cut, None))]
    torch.testing.assert_close(whole.grad, cut_up.grad, rtol=1e-12, atol=1e-15)
    for field in fields(PolicyLoss):
        total = sum(getattr(half, field.name).detach() for half in halves)
        torch.testing.assert_close(total, getattr(full, field.name).detach(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("form", [sequence_loss, token_loss])
def test_what_stands_outside_the_mask_does_not_matter(form: Form) -> None:
    data = batch(seed=3)
    expected = ours(form, data, data["logprobs"])
    spoiled = data["logprobs"].masked_fill(~data["mask"], -torch.inf).requires_grad_()
    loss = ours(form, data, spoiled)
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    loss.backward()
    assert spoiled.grad is not None
    assert torch.equal(spoiled.grad[~data["mask"]], torch.zeros_like(spoiled.grad[~data["mask"]]))


def test_diagnostics() -> None:
    logprobs = torch.tensor([[-1.0, -2.0], [-1.0, -9.0]])
    old = torch.tensor([[-1.5, -2.5], [-0.5, -1.0]])
    mask = torch.tensor([[True, True], [True, False]])
    result = sequence_loss(logprobs, old, mask, torch.tensor([0.5, -0.5]), tau=TAU, num_samples=2)
    assert result.log_ratio.item() == pytest.approx((1.0 - 0.5) / 2)
    assert result.abs_advantage.item() == pytest.approx(0.5)
    up, down = torch.tensor(0.5).exp() - 1.5, torch.tensor(-0.5).exp() - 0.5
    assert result.kl.item() == pytest.approx(((up + down) / 2).item())
    same = token_loss(old, old, mask, torch.zeros(2), tau=TAU, num_samples=2)
    assert (same.kl.item(), same.log_ratio.item(), same.loss.item()) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("form", [sequence_loss, token_loss])
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), cap=st.floats(1.0, 1e6))
def test_on_policy_the_importance_weight_changes_not_a_bit(form: Form, seed: int, cap: float) -> None:
    data = batch(seed)
    advantages = group_advantages(data["rewards"], data["groups"]).float()
    old = data["logprobs"].float()
    results, grads = [], []
    for importance_cap in (None, cap):
        logprobs = old.clone().requires_grad_()
        result = form(
            logprobs, old, data["mask"], advantages, tau=TAU, num_samples=len(old), importance_cap=importance_cap
        )
        result.loss.backward()
        results.append([getattr(result, field.name).detach() for field in fields(PolicyLoss)])
        grads.append(logprobs.grad)
    assert torch.equal(torch.stack(results[0]), torch.stack(results[1]))
    assert torch.equal(grads[0], grads[1])
    assert (results[1][-2].item(), results[1][-1].item()) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("form", "weights"),
    # Log-ratios: ln 2 and ln 2; ln 8; -ln 4 and nothing. A sample at a time: 4, 8, 1/4.
    [(sequence_loss, [3.0, 3.0, 0.25]), (token_loss, [2.0, 3.0, 0.25])],
)
def test_importance_weighs_squared_errors_and_is_told(form: Form, weights: list[float]) -> None:
    ratio = torch.tensor([[2.0, 2.0], [8.0, 99.0], [0.25, 99.0]], dtype=torch.float64).log()
    mask = torch.tensor([[True, True], [True, False], [True, False]])
    advantages = torch.tensor([1.0, 0.5, -0.5], dtype=torch.float64)

    def run(rows: slice, cap: float | None) -> PolicyLoss:
        zeros = torch.zeros_like(ratio[rows])
        return form(ratio[rows], zeros, mask[rows], advantages[rows], tau=TAU, num_samples=3, importance_cap=cap)

    plain = [run(slice(i, i + 1), None).loss.item() for i in range(3)]
    result = run(slice(None), 3.0)
    assert result.loss.item() == pytest.approx(sum(w * loss for w, loss in zip(weights, plain, strict=True)))
    assert result.importance.item() == pytest.approx(sum(weights) / 3)
    assert result.capped.item() == pytest.approx(weights.count(3.0) / 3)


@pytest.mark.parametrize("form", [sequence_loss, token_loss])
def test_a_ratio_too_large_for_a_float_is_cut(form: Form) -> None:
    logprobs = torch.zeros(1, 1, requires_grad=True)
    result = form(
        logprobs,
        torch.full((1, 1), -1e4),
        torch.ones(1, 1),
        torch.tensor([0.5]),
        tau=TAU,
        num_samples=1,
        importance_cap=2.0,
    )
    result.loss.backward()
    assert logprobs.grad is not None
    assert result.loss.item() == pytest.approx(2 * (0.5 - TAU * 1e4) ** 2)
    assert logprobs.grad.item() == pytest.approx(-4 * TAU * (0.5 - TAU * 1e4))
    assert (result.importance.item(), result.capped.item()) == (2.0, 1.0)


@pytest.mark.parametrize("form", [sequence_loss, token_loss])
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("which", ["logprobs", "old"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_log_probability_that_is_no_number_shows_in_the_loss(
    form: Form, cap: float | None, which: str, bad: float
) -> None:
    data = batch(seed=4)
    data[which] = data[which].clone()
    data[which][2, 0] = bad
    logprobs = data["logprobs"].requires_grad_()
    result = form(logprobs, data["old"], data["mask"], torch.ones(8), tau=TAU, num_samples=8, importance_cap=cap)
    assert not result.loss.isfinite()
    result.loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad[[0, 1, 3, 4, 5, 6, 7]].isfinite().all()


@pytest.mark.parametrize("cap", [0.5, 0.0, math.inf, math.nan])
def test_an_importance_cap_below_one_or_endless_is_refused(cap: float) -> None:
    values = torch.zeros(1, 1)
    for form in (sequence_loss, token_loss):
        with pytest.raises(ValueError, match="importance_cap must be a finite number of 1 or more"):
            form(values, values, values == 0, torch.zeros(1), tau=TAU, num_samples=1, importance_cap=cap)


def test_a_sample_without_tokens_is_harmless() -> None:
    logprobs = torch.zeros(1, 2, requires_grad=True)
    for form, value in ((sequence_loss, 0.25), (token_loss, 0.0)):
        mask = torch.zeros(1, 2, dtype=torch.bool)
        result = form(logprobs, torch.zeros(1, 2), mask, torch.tensor([0.5]), tau=TAU, num_samples=1)
        assert result.loss.item() == value


def test_group_advantages_and_mixed_share() -> None:
    rewards = torch.tensor([1.0, 0.1, 0.0, 0.1, 0.25, 0.1])
    groups = torch.tensor([40, 2, 40, 2, 9, 2])
    advantages = group_advantages(rewards, groups)
    torch.testing.assert_close(advantages, torch.tensor([0.5, 0.0, -0.5, 0.0, 0.0, 0.0]), rtol=0, atol=0)
    assert mixed_group_share(rewards, groups) == pytest.approx(1 / 3)
    assert mixed_group_share(rewards[:0], groups[:0]) == 0.0
    assert mixed_group_share(torch.tensor([-1.0, -2.0]), torch.tensor([0, 0])) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_teach_nothing_whatever_they_are(dtype: torch.dtype) -> None:
    for reward in (-0.1, 0.1, 0.7, 5 / 6, 0.95):
        for size in (3, 8, 10):
            advantages = group_advantages(
                torch.full((size,), reward, dtype=dtype), torch.zeros(size, dtype=torch.int64)
            )
            assert (advantages == 0).all()


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1, width=32)), min_size=1, max_size=40))
@settings(max_examples=50)
def test_advantages_of_a_group_sum_to_zero(rows: list[tuple[int, float]]) -> None:
    groups = torch.tensor([group for group, _ in rows])
    rewards = torch.tensor([reward for _, reward in rows], dtype=torch.float32)
    advantages = group_advantages(rewards, groups)
    for group in groups.unique():
        member = groups == group
        assert abs(advantages[member].sum().item()) < 1e-5
        if len(rewards[member].unique()) == 1:
            assert torch.equal(advantages[member], torch.zeros_like(advantages[member]))


# ---------------------------------------------------------------------------------------------
# Likelihood
# ---------------------------------------------------------------------------------------------


def head_batch(seed: int, num_tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(num_tokens, 5, generator=generator).to(dtype)
    weight = torch.randn(11, 5, generator=generator).to(dtype)
    return hidden, weight, torch.randint(0, 11, (num_tokens,), generator=generator)


def gradients(function: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    inputs = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value = function(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    num_tokens=st.integers(1, 20),
    chunk=st.integers(1, 25),
    temperature=st.sampled_from([0.6, 1.0, 1.7, "one a token"]),
)
def test_chunked_forms_equal_their_plain_twins(
    seed: int, num_tokens: int, chunk: int, temperature: float | str
) -> None:
    hidden, weight, targets = head_batch(seed, num_tokens, torch.float64)
    scale = torch.linspace(0.5, 2, num_tokens).double() if isinstance(temperature, str) else temperature
    upstream = torch.linspace(-1, 2, num_tokens, dtype=torch.float64)
    pairs = [
        (
            lambda h, w: cross_entropy(h, w, targets, num_tokens=37, chunk_tokens=chunk) * 3,
            lambda h, w: plain_cross_entropy(h, w, targets, num_tokens=37) * 3,
        ),
        (
            lambda h, w: token_logprobs(h, w, targets, temperature=scale, chunk_tokens=chunk) @ upstream,
            lambda h, w: plain_token_logprobs(h, w, targets, temperature=scale) @ upstream,
        ),
    ]
    for chunked, plain in pairs:
        for mine, theirs in zip(gradients(chunked, hidden, weight), gradients(plain, hidden, weight), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_likelihood_gradients_agree_with_finite_differences() -> None:
    hidden, weight, targets = head_batch(0, 4, torch.float64)
    inputs = (hidden.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(lambda h, w: cross_entropy(h, w, targets, num_tokens=9, chunk_tokens=3), inputs)
    for scale in (0.7, torch.tensor([0.7, 1.0, 0.3, 2.0])):
        assert torch.autograd.gradcheck(
            lambda h, w, scale=scale: token_logprobs(h, w, targets, temperature=scale, chunk_tokens=3), inputs
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_temperature_for_each_token_is_that_of_each_alone(dtype: torch.dtype) -> None:
    hidden, weight, targets = head_batch(8, 9, dtype)
    temperatures = [0.6, 1.0, 1.7]
    each = torch.tensor(temperatures * 3, dtype=torch.float64)
    found = token_logprobs(hidden, weight, targets, temperature=each, chunk_tokens=4)
    assert found.dtype == torch.float32
    for which, temperature in enumerate(temperatures):
        expected = token_logprobs(hidden, weight, targets, temperature=temperature, chunk_tokens=4)
        torch.testing.assert_close(found[which::3], expected[which::3], rtol=1e-6, atol=1e-6)
    assert (found[::3] - token_logprobs(hidden, weight, targets)[::3]).abs().max() > 0.1


def test_accumulated_cross_entropy_equals_one_big_batch() -> None:
    hidden, weight, targets = head_batch(1, 13, torch.float64)
    whole, cut = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    total = cross_entropy(hidden, whole, targets, num_tokens=13, chunk_tokens=4)
    total.backward()
    parts = []
    for rows in (slice(0, 2), slice(2, 11), slice(11, 13)):
        part = cross_entropy(hidden[rows], cut, targets[rows], num_tokens=13, chunk_tokens=4)
        part.backward()
        parts.append(part.detach())
    torch.testing.assert_close(sum(parts), total.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.grad, cut.grad, rtol=1e-12, atol=1e-14)


def test_without_gradient_the_value_is_the_same() -> None:
    hidden, weight, targets = head_batch(2, 10, torch.float32)
    with torch.no_grad():
        value = cross_entropy(hidden, weight.requires_grad_(), targets, num_tokens=10, chunk_tokens=3)
    assert not value.requires_grad
    torch.testing.assert_close(value, plain_cross_entropy(hidden, weight.detach(), targets, num_tokens=10))


def test_only_wanted_gradients_are_given() -> None:
    hidden, weight, targets = head_batch(3, 6, torch.float32)
    weight.requires_grad_()
    token_logprobs(hidden, weight, targets).sum().backward()
    assert weight.grad is not None
    assert hidden.grad is None


def test_bf16_inputs_give_wide_values_and_narrow_gradients() -> None:
    hidden, weight, targets = head_batch(4, 64, torch.bfloat16)
    reference = gradients(
        lambda h, w: plain_cross_entropy(h, w, targets, num_tokens=64), hidden.double(), weight.double()
    )
    value, grad_hidden, grad_weight = gradients(
        lambda h, w: cross_entropy(h, w, targets, num_tokens=64, chunk_tokens=8), hidden, weight
    )
    assert value.dtype == torch.float32
    assert grad_hidden.dtype == grad_weight.dtype == torch.bfloat16
    torch.testing.assert_close(value.double(), reference[0], rtol=2e-2, atol=0)
    torch.testing.assert_close(grad_weight.double(), reference[2], rtol=5e-2, atol=2e-3)


def test_logits_never_exist_for_more_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    linear = torch.nn.functional.linear

    def watched(hidden: Tensor, weight: Tensor) -> Tensor:
        seen.append(len(hidden))
        return linear(hidden, weight)

    monkeypatch.setattr("openk2.train.objective.F.linear", watched)
    hidden, weight, targets = head_batch(5, 20, torch.float32)
    hidden.requires_grad_()
    (token_logprobs(hidden, weight, targets, chunk_tokens=8).sum()).backward()
    cross_entropy(hidden, weight, targets, num_tokens=20, chunk_tokens=8).backward()
    assert seen == [8, 8, 4] * 3


def test_no_tokens_is_no_loss() -> None:
    hidden, weight, targets = head_batch(6, 0, torch.float32)
    loss = cross_entropy(hidden.requires_grad_(), weight.requires_grad_(), targets, num_tokens=5)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(weight.grad, torch.zeros_like(weight))  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    hidden, weight, targets = head_batch(7, 2, torch.float32)
    with pytest.raises(ValueError, match="temperature must be positive"):
        token_logprobs(hidden, weight, targets, temperature=temperature)


def test_temperatures_must_be_positive_and_one_a_token() -> None:
    hidden, weight, targets = head_batch(7, 3, torch.float32)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=rf"temperature must be positive, got {bad:g} for token 1"):
            token_logprobs(hidden, weight, targets, temperature=torch.tensor([1.0, bad, 1.0]))
    with pytest.raises(ValueError, match=r"temperature has shape \[2\], the tokens \[3\]"):
        token_logprobs(hidden, weight, targets, temperature=torch.ones(2))
