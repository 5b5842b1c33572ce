"""What docs/objective.md claims: gradients written out in NumPy, and the minimum of the loss on small bandits.

Shapes: S samples, T tokens of a sample, N sampled tokens in all, D model, V vocabulary, A actions of a bandit.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from openk2.optim import MuonClip
from openk2.train.objective import (
    PolicyLoss,
    cross_entropy,
    group_advantages,
    sequence_loss,
    token_logprobs,
    token_loss,
)

Floats = NDArray[np.float64]
Form = Callable[..., PolicyLoss]

TAU = 0.3
FORMS = [sequence_loss, token_loss]
CAPS = [None, 1.0, 1.5, 1e6]


# ---------------------------------------------------------------------------------------------
# Gradients written out
# ---------------------------------------------------------------------------------------------


def written_out(
    form: Form, logprobs_ST: Floats, old_ST: Floats, mask_ST: Floats, advantages_S: Floats, cap: float | None
) -> tuple[Floats, Floats]:
    """The gradient of the loss in the log-probabilities, and the importance weights, both [S, T]."""
    ratio_ST = np.where(mask_ST, logprobs_ST - old_ST, 0.0)
    share_ST = mask_ST.astype(float)
    if form is sequence_loss:
        ratio_ST = np.broadcast_to(ratio_ST.sum(1, keepdims=True), ratio_ST.shape)
    else:
        share_ST = share_ST / mask_ST.sum(1, keepdims=True)
    weight_ST = np.ones_like(ratio_ST) if cap is None else np.minimum(np.exp(ratio_ST), cap)
    error_ST = advantages_S[:, None] - TAU * ratio_ST
    return -2 * TAU * weight_ST * error_ST * share_ST / len(advantages_S), weight_ST


def samples(seed: int, num_samples: int = 6, length: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logprobs, old = -3 * torch.rand(2, num_samples, length, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, length + 1, (num_samples,), generator=generator)
    advantages = torch.randn(num_samples, generator=generator, dtype=torch.float64)
    return logprobs, old, torch.arange(length) < lengths[:, None], advantages


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cap", CAPS)
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_gradient_is_the_one_written_out(form: Form, cap: float | None, seed: int) -> None:
    logprobs, old, mask, advantages = samples(seed)
    logprobs.requires_grad_()
    form(logprobs, old, mask, advantages, tau=TAU, num_samples=6, importance_cap=cap).loss.backward()
    expected, _ = written_out(form, *(x.detach().numpy() for x in (logprobs, old, mask, advantages)), cap)
    assert logprobs.grad is not None
    np.testing.assert_allclose(logprobs.grad.numpy(), expected, rtol=1e-12, atol=1e-14)


def head_samples() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Hidden states of 9 tokens in 4 samples, a head, targets, a temperature for each token, mask and advantages."""
    generator = torch.Generator().manual_seed(5)
    hidden_ND = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    head_VD = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    targets_N = torch.randint(0, 7, (9,), generator=generator)
    temperatures_N = torch.tensor([1.0, 1.0, 1.0, 0.7, 0.7, 1.3, 1.3, 1.3, 0.5], dtype=torch.float64)
    mask_ST = torch.arange(3) < torch.tensor([3, 2, 3, 1])[:, None]
    return hidden_ND, head_VD, targets_N, temperatures_N, mask_ST, torch.tensor([0.5, -0.5, 0.25, -0.25]).double()


def spread(values_N: Tensor, mask_ST: Tensor) -> Tensor:
    return values_N.new_zeros(mask_ST.shape).masked_scatter(mask_ST, values_N)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cap", CAPS)
def test_gradient_through_head_and_temperatures_is_the_one_written_out(form: Form, cap: float | None) -> None:
    hidden_ND, head_VD, targets_N, temperatures_N, mask_ST, advantages_S = head_samples()
    generator = torch.Generator().manual_seed(6)
    drift_ST = torch.randn(mask_ST.shape, generator=generator, dtype=torch.float64)

    hidden_ND.requires_grad_(), head_VD.requires_grad_()
    logprobs_N = token_logprobs(hidden_ND, head_VD, targets_N, temperature=temperatures_N, chunk_tokens=4)
    logprobs_ST = spread(logprobs_N, mask_ST)
    old_ST = (logprobs_ST - drift_ST).detach()
    form(logprobs_ST, old_ST, mask_ST, advantages_S, tau=TAU, num_samples=4, importance_cap=cap).loss.backward()

    hidden, head, targets = hidden_ND.detach().numpy(), head_VD.detach().numpy(), targets_N.numpy()
    temperatures, mask = temperatures_N.numpy(), mask_ST.numpy()
    exponents_NV = np.exp(hidden @ head.T / temperatures[:, None])
    probabilities_NV = exponents_NV / exponents_NV.sum(1, keepdims=True)
    logprobs = np.zeros(mask.shape)
    logprobs[mask] = np.log(probabilities_NV[np.arange(9), targets])
    gradient_ST, weight_ST = written_out(form, logprobs, old_ST.numpy(), mask, advantages_S.numpy(), cap)
    # d log p(target) / d logits = (onehot - p) / T
    logits_NV = gradient_ST[mask][:, None] * (np.eye(7)[targets] - probabilities_NV) / temperatures[:, None]

    assert hidden_ND.grad is not None
    assert head_VD.grad is not None
    np.testing.assert_allclose(hidden_ND.grad.numpy(), logits_NV @ head, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(head_VD.grad.numpy(), logits_NV.T @ hidden, rtol=1e-11, atol=1e-14)
    if cap == 1.5:
        assert 0 < (weight_ST[mask] == cap).sum() < mask.sum()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("cap", "drift"), [(None, 0.4), (None, -0.4), (1.0, 0.4)])
def test_finite_differences_agree_through_head_and_temperatures(form: Form, cap: float | None, drift: float) -> None:
    """With a cap only where it cuts every weight: finite differences would see a weight move, the gradient must not."""
    hidden_ND, head_VD, targets_N, temperatures_N, mask_ST, advantages_S = head_samples()

    def logprobs(hidden_ND: Tensor, head_VD: Tensor) -> Tensor:
        return spread(token_logprobs(hidden_ND, head_VD, targets_N, temperature=temperatures_N), mask_ST)

    old_ST = logprobs(hidden_ND, head_VD) - drift

    def loss(hidden_ND: Tensor, head_VD: Tensor) -> Tensor:
        return form(
            logprobs(hidden_ND, head_VD), old_ST, mask_ST, advantages_S, tau=TAU, num_samples=4, importance_cap=cap
        ).loss

    assert torch.autograd.gradcheck(loss, (hidden_ND.requires_grad_(), head_VD.requires_grad_()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cap", [None, 2.0])
def test_on_policy_the_gradient_is_two_tau_reinforce_with_a_baseline(form: Form, cap: float | None) -> None:
    hidden_ND, head_VD, targets_N, temperatures_N, mask_ST, _ = head_samples()
    head_VD.requires_grad_()
    rewards_S = torch.tensor([1.0, 0.0, 0.25, 0.0], dtype=torch.float64)
    logprobs_ST = spread(token_logprobs(hidden_ND, head_VD, targets_N, temperature=temperatures_N), mask_ST)
    advantages_S = group_advantages(rewards_S, torch.zeros(4, dtype=torch.long))
    result = form(logprobs_ST, logprobs_ST.detach(), mask_ST, advantages_S, tau=TAU, num_samples=4, importance_cap=cap)
    (ours,) = torch.autograd.grad(result.loss, head_VD, retain_graph=True)
    length_S = mask_ST.sum(1) if form is token_loss else torch.ones(4)
    reinforce = -((rewards_S - rewards_S.mean()) * logprobs_ST.sum(1) / length_S).mean()
    (theirs,) = torch.autograd.grad(reinforce, head_VD)
    torch.testing.assert_close(ours, 2 * TAU * theirs, rtol=1e-12, atol=1e-15)
    assert theirs.abs().max() > 1e-2


@pytest.mark.parametrize("form", FORMS)
def test_a_sample_without_advantage_pulls_back_off_policy_only(form: Form) -> None:
    logprobs, _, mask, _ = samples(seed=9)
    for before, sign in ((logprobs, 0), (logprobs - 0.5, 1), (logprobs + 0.5, -1)):
        values = logprobs.clone().requires_grad_()
        form(values, before, mask, torch.zeros(6).double(), tau=TAU, num_samples=6).loss.backward()
        assert values.grad is not None
        assert torch.equal(values.grad.sign(), sign * mask.double())


def test_the_ptx_loss_adds_its_own_gradient_at_its_weight() -> None:
    hidden_ND, head_VD, targets_N, temperatures_N, mask_ST, advantages_S = head_samples()
    logprobs_N = token_logprobs(hidden_ND, head_VD.requires_grad_(), targets_N, temperature=temperatures_N)
    policy = sequence_loss(
        spread(logprobs_N, mask_ST), torch.zeros(4, 3), mask_ST, advantages_S, tau=TAU, num_samples=4
    ).loss
    (alone,) = torch.autograd.grad(policy, head_VD, retain_graph=True)
    (policy + 0.1 * cross_entropy(hidden_ND, head_VD, targets_N, num_tokens=9)).backward()
    hidden, head = hidden_ND.numpy(), head_VD.detach().numpy()
    exponents_NV = np.exp(hidden @ head.T)
    logits_NV = (exponents_NV / exponents_NV.sum(1, keepdims=True) - np.eye(7)[targets_N.numpy()]) / 9
    assert head_VD.grad is not None
    np.testing.assert_allclose((head_VD.grad - alone).numpy(), 0.1 * logits_NV.T @ hidden, rtol=1e-10, atol=1e-14)


def test_the_optimizer_does_not_see_the_factor_of_two_tau() -> None:
    """Muon and AdamW make the same steps of a loss and of a fifth of it; of a sum with another loss, they do not."""

    def stepped(scale: float, ptx: float) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 6))
        optimizer = MuonClip.for_model(model, lr=0.02, adamw_lr=0.01, tau=None)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        before = nn.utils.parameters_to_vector(model.parameters()).detach()
        for _ in range(3):
            x = torch.randn(16, 6, generator=generator)
            optimizer.zero_grad()
            (scale * model(x).square().mean() + ptx * (model(x) - x).abs().mean()).backward()
            optimizer.step()
        return nn.utils.parameters_to_vector(model.parameters()).detach() - before

    torch.testing.assert_close(stepped(0.2, 0.0), stepped(1.0, 0.0), rtol=1e-3, atol=1e-4)
    assert (stepped(0.2, 1.0) - stepped(1.0, 1.0)).abs().max() > 1e-2


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_a_penalty_tells_a_cut_answer_from_a_wrong_one(penalty: float) -> None:
    """Of K = 4 answers that all fail, one at its budget."""
    advantages = group_advantages(torch.tensor([0.0, 0.0, 0.0, -penalty]), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(advantages, penalty * torch.tensor([0.25, 0.25, 0.25, -0.75]), rtol=0, atol=1e-7)


# ---------------------------------------------------------------------------------------------
# A bandit: five actions, drawn exactly as often as π_old says
# ---------------------------------------------------------------------------------------------

COUNTS_A = torch.tensor([8, 5, 4, 2, 1])
OLD_A = COUNTS_A.double() / 20
REWARDS_A = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
DRAWN_S = torch.arange(5).repeat_interleave(COUNTS_A)
ADVANTAGES_S = group_advantages(REWARDS_A[DRAWN_S], torch.zeros(20, dtype=torch.long))


def regularised_optimum(tau: float) -> tuple[Tensor, float]:
    """π* ∝ π_old · exp(r / τ), and τ log Z."""
    unnormalised_A = OLD_A * (REWARDS_A / tau).exp()
    return unnormalised_A / unnormalised_A.sum(), tau * unnormalised_A.sum().log().item()


def regularised_value(logits_A: Tensor, tau: float) -> Tensor:
    """E_π[r] - τ KL(π ‖ π_old)."""
    logprobs_A = logits_A.log_softmax(0)
    return (logprobs_A.exp() * (REWARDS_A - tau * (logprobs_A - OLD_A.log()))).sum()


def bandit_loss(logits_A: Tensor, advantages_S: Tensor, tau: float, cap: float | None = None) -> PolicyLoss:
    """The loss in expectation over π_old, since the actions stand in the batch as often as it draws them."""
    logprobs_S1 = logits_A.log_softmax(0)[DRAWN_S][:, None]
    old_S1 = OLD_A.log()[DRAWN_S][:, None]
    mask_S1 = torch.ones(20, 1, dtype=torch.bool)
    return sequence_loss(logprobs_S1, old_S1, mask_S1, advantages_S, tau=tau, num_samples=20, importance_cap=cap)


def minimum(loss_of: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """The parameters where the gradient of ``loss_of`` vanishes, from ``start``."""
    values = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [values], max_iter=2000, tolerance_grad=1e-14, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(values)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert values.grad is not None
    assert values.grad.abs().max() < 1e-7
    return values.detach()


def bandit_minimum(advantages_S: Tensor, tau: float) -> Tensor:
    return minimum(lambda logits_A: bandit_loss(logits_A, advantages_S, tau).loss, OLD_A.log()).softmax(0)


def distance(one: Tensor, other: Tensor) -> float:
    """Total variation."""
    return 0.5 * (one - other).abs().sum().item()


@settings(max_examples=50)
@given(logits=st.lists(st.floats(-4, 4), min_size=5, max_size=5), tau=st.floats(0.1, 5))
def test_no_policy_is_better_than_the_tilted_one(logits: list[float], tau: float) -> None:
    """E_π[r] - τ KL(π ‖ π_old) = τ log Z - τ KL(π ‖ π*)."""
    logits_A = torch.tensor(logits, dtype=torch.float64)
    best_A, tau_log_z = regularised_optimum(tau)
    logprobs_A = logits_A.log_softmax(0)
    divergence = (logprobs_A.exp() * (logprobs_A - best_A.log())).sum().item()
    assert divergence >= -1e-12
    assert regularised_value(logits_A, tau).item() == pytest.approx(tau_log_z - tau * divergence, abs=1e-9)


@pytest.mark.parametrize("tau", [1.0, 2.0, 4.0])
def test_tau_log_z_is_the_mean_reward_and_half_the_variance_over_tau(tau: float) -> None:
    mean = (OLD_A @ REWARDS_A).item()
    variance = (OLD_A @ (REWARDS_A - mean).square()).item()
    assert (mean, variance) == (pytest.approx(0.2875), pytest.approx(0.08921875))
    _, tau_log_z = regularised_optimum(tau)
    # The next term of the series is the third moment over 6 τ².
    third = (OLD_A @ (REWARDS_A - mean) ** 3).item()
    assert tau_log_z - mean - variance / (2 * tau) == pytest.approx(third / (6 * tau**2), rel=0.2)


@pytest.mark.parametrize("tau", [0.2, 0.5, 2.0])
def test_with_tau_log_z_the_minimum_is_the_regularised_optimum(tau: float) -> None:
    best_A, tau_log_z = regularised_optimum(tau)
    exact_S = REWARDS_A[DRAWN_S] - tau_log_z
    found_A = bandit_minimum(exact_S, tau)
    assert distance(found_A, best_A) < 1e-7
    assert bandit_loss(found_A.log(), exact_S, tau).loss.item() < 1e-13
    assert distance(OLD_A, best_A) > 0.05


def test_with_the_mean_reward_the_minimum_is_off_by_the_third_power() -> None:
    """Twice the τ, an eighth of the distance; the way from π_old to the optimum only halves."""
    taus = [1.0, 2.0, 4.0, 8.0]
    off, way = [], []
    for tau in taus:
        best_A, _ = regularised_optimum(tau)
        off.append(distance(bandit_minimum(ADVANTAGES_S, tau), best_A))
        way.append(distance(OLD_A, best_A))
    assert off[0] == pytest.approx(0.0065, abs=1e-4)
    assert way[0] == pytest.approx(0.134, abs=1e-3)
    for small, large in itertools.pairwise(range(len(taus))):
        assert 7 < off[small] / off[large] < 9
        assert 1.9 < way[small] / way[large] < 2.2


@pytest.mark.parametrize(
    ("tau", "off", "way"), [(0.1, 0.588, 0.825), (0.2, 0.281, 0.609), (0.5, 0.0456, 0.276), (1.0, 0.0065, 0.134)]
)
def test_with_the_mean_reward_errors_are_left_in_proportion_to_the_ratio(tau: float, off: float, way: float) -> None:
    """At the minimum the errors A - τ log(π / π_old) are μ · π / π_old, with μ > 0: a further pull towards π_old."""
    best_A, _ = regularised_optimum(tau)
    found_A = bandit_minimum(ADVANTAGES_S, tau)
    ratio_A = found_A / OLD_A
    errors_A = REWARDS_A - OLD_A @ REWARDS_A - tau * ratio_A.log()
    mu_A = errors_A / ratio_A
    assert mu_A[0] > 0
    torch.testing.assert_close(mu_A, mu_A.mean().expand(5), rtol=1e-4, atol=0)
    assert distance(found_A, best_A) == pytest.approx(off, rel=0.01)
    assert distance(OLD_A, best_A) == pytest.approx(way, rel=0.01)
    assert OLD_A @ REWARDS_A < found_A @ REWARDS_A < best_A @ REWARDS_A


@pytest.mark.parametrize("num_samples", [2, 3])
def test_a_group_with_its_own_mean_shrinks_the_policy_gradient(num_samples: int) -> None:
    """By (K - 1) / K in expectation: here over all groups that K draws of five actions can give."""
    logits_A = OLD_A.log().requires_grad_()
    policy_gradient = torch.autograd.grad(logits_A.softmax(0) @ REWARDS_A, logits_A)[0]
    expected = torch.zeros(5, dtype=torch.float64)
    for drawn in itertools.product(range(5), repeat=num_samples):
        logprobs_S1 = logits_A.log_softmax(0)[list(drawn)][:, None]
        advantages_S = group_advantages(REWARDS_A[list(drawn)], torch.zeros(num_samples, dtype=torch.long))
        mask_S1 = torch.ones_like(logprobs_S1, dtype=torch.bool)
        result = sequence_loss(
            logprobs_S1, logprobs_S1.detach(), mask_S1, advantages_S, tau=TAU, num_samples=num_samples
        )
        probability = OLD_A[list(drawn)].prod()
        expected += probability * torch.autograd.grad(result.loss, logits_A)[0]
    shrunk = -2 * TAU * (num_samples - 1) / num_samples * policy_gradient
    torch.testing.assert_close(expected, shrunk, rtol=1e-10, atol=1e-14)


# ---------------------------------------------------------------------------------------------
# Off policy
# ---------------------------------------------------------------------------------------------

MOVED_A = torch.tensor([0.1, 0.6, -0.2, 0.4, 0.9], dtype=torch.float64)
"""Logits of a policy that has left π_old."""


def bandit_gradient(logits_A: Tensor, advantages_S: Tensor, tau: float, cap: float | None) -> Tensor:
    logits_A = logits_A.clone().requires_grad_()
    return torch.autograd.grad(bandit_loss(logits_A, advantages_S, tau, cap).loss, logits_A)[0]


@pytest.mark.parametrize("baseline", [-0.7, 0.0, 0.3])
def test_a_baseline_pulls_off_policy_and_not_under_importance_weights(baseline: float) -> None:
    """Reward minus b instead of reward adds 2τ b (π_old - π) to the gradient in the logits; weighted, nothing."""
    for cap, expected_A in ((None, 2 * TAU * baseline * (OLD_A - MOVED_A.softmax(0))), (1e6, torch.zeros(5).double())):
        with_baseline = bandit_gradient(MOVED_A, ADVANTAGES_S - baseline, TAU, cap)
        added_A = with_baseline - bandit_gradient(MOVED_A, ADVANTAGES_S, TAU, cap)
        torch.testing.assert_close(added_A, expected_A, rtol=1e-9, atol=1e-14)


def test_under_uncut_weights_the_gradient_is_that_of_the_regularised_problem() -> None:
    logits_A = MOVED_A.clone().requires_grad_()
    wanted = torch.autograd.grad(regularised_value(logits_A, TAU), logits_A)[0]
    found = bandit_gradient(MOVED_A, ADVANTAGES_S, TAU, cap=1e6)
    torch.testing.assert_close(found, -2 * TAU * wanted, rtol=1e-10, atol=1e-14)
    assert (bandit_gradient(MOVED_A, ADVANTAGES_S, TAU, cap=None) + 2 * TAU * wanted).abs().max() > 1e-2


def test_weighted_descent_ends_at_the_optimum_unless_the_cap_cuts_there() -> None:
    """Without weights 0.281 from the optimum at τ = 0.2; with cap 1, 2, 4: 0.255, 0.222, 0.156; uncut: none."""
    tau = 0.2
    best_A, _ = regularised_optimum(tau)
    found = []
    for cap in (None, 1.0, 2.0, 4.0, 1e6):
        logits_A = OLD_A.log()
        for _ in range(300):
            logits_A = logits_A - 10 / (2 * tau) * bandit_gradient(logits_A, ADVANTAGES_S, tau, cap)
        assert bandit_gradient(logits_A, ADVANTAGES_S, tau, cap).abs().max() < 1e-7
        found.append(distance(logits_A.softmax(0), best_A))
    assert found == pytest.approx([0.281, 0.255, 0.222, 0.156, 0.0], abs=1e-3)


def test_the_kl_estimate_has_the_divergence_as_its_mean() -> None:
    result = bandit_loss(MOVED_A, ADVANTAGES_S, TAU)
    divergence = (OLD_A * (OLD_A.log() - MOVED_A.log_softmax(0))).sum()
    assert result.kl.item() == pytest.approx(divergence.item(), rel=1e-12)
    assert result.log_ratio.item() == pytest.approx(-divergence.item(), rel=1e-12)


def test_uncut_weights_average_to_one() -> None:
    assert bandit_loss(MOVED_A, ADVANTAGES_S, TAU, cap=1e6).importance.item() == pytest.approx(1.0, rel=1e-12)
    assert bandit_loss(MOVED_A, ADVANTAGES_S, TAU, cap=1.0).importance.item() < 1.0


# ---------------------------------------------------------------------------------------------
# Token by token
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "drift", "length", "error", "token_gradient", "weight"),
    [
        (sequence_loss, 0.05, 4, 0.48, -0.096, 1.2214),
        (sequence_loss, 0.05, 400, -1.5, 0.3, 2.0),
        (sequence_loss, -0.05, 4, 0.52, -0.104, 0.8187),
        (sequence_loss, -0.05, 400, 2.5, -0.5, 2.06e-9),
        (token_loss, 0.05, 4, 0.495, -0.02475, 1.0513),
        (token_loss, 0.05, 400, 0.495, -0.0002475, 1.0513),
        (token_loss, -0.05, 4, 0.505, -0.02525, 0.9512),
        (token_loss, -0.05, 400, 0.505, -0.0002525, 0.9512),
    ],
)
def test_the_log_ratio_of_a_sequence_walks_with_its_length(
    form: Form, drift: float, length: int, error: float, token_gradient: float, weight: float
) -> None:
    """A = 0.5, τ = 0.1, every token ``drift`` more likely than when it was drawn; weights with cap 2."""
    logprobs = torch.full((1, length), drift, dtype=torch.float64, requires_grad=True)
    zeros, mask = torch.zeros_like(logprobs), torch.ones_like(logprobs, dtype=torch.bool)
    advantages = torch.tensor([0.5], dtype=torch.float64)
    result = form(logprobs, zeros, mask, advantages, tau=0.1, num_samples=1)
    result.loss.backward()
    assert logprobs.grad is not None
    assert result.loss.item() == pytest.approx(error**2)
    assert logprobs.grad[0, 0].item() == pytest.approx(token_gradient)
    capped = form(logprobs, zeros, mask, advantages, tau=0.1, num_samples=1, importance_cap=2.0)
    assert capped.importance.item() == pytest.approx(weight, rel=1e-3)


def test_the_forms_agree_for_one_token() -> None:
    logprobs, old, _, advantages = samples(seed=8, length=1)
    mask = torch.ones_like(logprobs, dtype=torch.bool)
    one, other = (form(logprobs, old, mask, advantages, tau=TAU, num_samples=6, importance_cap=2.0) for form in FORMS)
    assert one == other


def test_the_minimum_of_the_token_form_nears_the_optimum_with_the_square() -> None:
    """Nine answers of two tokens, all equally likely at first. Twice the τ, a quarter of the distance."""
    rewards_S = torch.tensor([0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    advantages_S = group_advantages(rewards_S, torch.zeros(9, dtype=torch.long))
    first_S, second_S = torch.arange(9) // 3, torch.arange(9) % 3
    old_ST = torch.full((9, 2), 1 / 3, dtype=torch.float64).log()

    def logprobs(logits: Tensor) -> Tensor:
        """Of both tokens, from the logits of the first [3] and of the second given the first [3, 3]."""
        first_A, second_AA = logits[:3].log_softmax(0), logits[3:].view(3, 3).log_softmax(1)
        return torch.stack([first_A[first_S], second_AA[first_S, second_S]], dim=1)

    def off(form: Form, tau: float) -> float:
        best_S = (rewards_S / tau).softmax(0)
        mask_ST = torch.ones(9, 2, dtype=torch.bool)
        found = minimum(
            lambda logits: form(logprobs(logits), old_ST, mask_ST, advantages_S, tau=tau, num_samples=9).loss,
            torch.zeros(12, dtype=torch.float64),
        )
        return distance(logprobs(found).sum(1).exp(), best_S)

    token = [off(token_loss, tau) for tau in (4.0, 8.0, 16.0)]
    sequence = [off(sequence_loss, tau) for tau in (4.0, 8.0, 16.0)]
    for small, large in itertools.pairwise(range(3)):
        assert 3.5 < token[small] / token[large] < 4.5
        assert 7 < sequence[small] / sequence[large] < 9


# ---------------------------------------------------------------------------------------------
# Temperature, and the page
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_only_the_sampling_temperature_gives_a_ratio_of_zero(form: Form) -> None:
    hidden_ND, head_VD, targets_N, temperatures_N, mask_ST, advantages_S = head_samples()
    sampled_ST = spread(token_logprobs(hidden_ND, head_VD, targets_N, temperature=temperatures_N), mask_ST)
    found = [
        form(
            spread(token_logprobs(hidden_ND, head_VD, targets_N, temperature=temperature), mask_ST),
            sampled_ST,
            mask_ST,
            advantages_S,
            tau=TAU,
            num_samples=4,
        )
        for temperature in (temperatures_N, 1.0)
    ]
    assert (found[0].log_ratio.item(), found[0].kl.item()) == (0.0, 0.0)
    assert found[1].kl.item() > 1e-2


def test_the_page_names_tests_that_exist() -> None:
    tests = Path(__file__).parents[1]
    page = (tests.parent / "docs" / "objective.md").read_text(encoding="utf-8")
    defined = "\n".join(path.read_text(encoding="utf-8") for path in sorted(tests.rglob("test_*.py")))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 15
    assert not [name for name in sorted(named) if f"def {name}(" not in defined]
