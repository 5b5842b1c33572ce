import copy
import math
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip

from .attention import make

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def published(parameter, role, heads=1, pieces=()):
    parameter.published = SimpleNamespace(role=role, heads=heads, pieces=pieces)
    return parameter


class Small(nn.Module):
    """One of everything: fused heads, an expert stack, an embedding, a norm, a router, an MLA."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(20, 16)
        self.norm = nn.Parameter(torch.ones(16))
        self.router = published(nn.Parameter(torch.randn(4, 16)), "router")
        self.kv_b = published(nn.Parameter(torch.randn(30, 12)), "matrix", 3, (("k", 6), ("v", 4)))
        self.gate_up = published(nn.Parameter(torch.randn(4, 24, 16)), "experts", 1, (("gate", 12), ("up", 12)))
        self.down = published(nn.Parameter(torch.randn(4, 16, 12)), "experts")
        self.attention = make("mla")


def give_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


# The reference: K2 §2.1 in float64, a matrix at a time, with the rows of every piece written out by hand.


def reference_orthogonal(m):
    a, b, c = COEFFICIENTS
    x = m / m.norm()
    for _ in range(5):
        x = a * x + b * (x @ x.T) @ x + c * (x @ x.T) @ (x @ x.T) @ x
    return x


def reference_rows(name, split):
    """Row numbers of each matrix in a weight that is not simply one matrix."""
    k_heads = [[10 * h + r for r in range(6)] for h in range(3)]
    v_heads = [[10 * h + r for r in range(6, 10)] for h in range(3)]
    gate_up = [list(range(12)), list(range(12, 24))]
    if split == "matrix":
        return None
    if split == "piece":
        return {"kv_b": [list(chain(*k_heads)), list(chain(*v_heads))], "gate_up": gate_up}.get(name)
    return {"kv_b": k_heads + v_heads, "gate_up": gate_up}.get(name)


def reference_muon(name, w, m, lr, weight_decay, split):
    w, m = w.reshape(-1, *w.shape[-2:]), m.reshape(-1, *m.shape[-2:])
    out = w * (1 - lr * weight_decay)
    for expert in range(len(w)):
        for rows in reference_rows(name, split) or [list(range(w.shape[1]))]:
            part = m[expert, rows]
            out[expert, rows] -= lr * 0.2 * math.sqrt(max(part.shape)) * reference_orthogonal(part)
    return out


def reference_clip(weights, top_H, tau):
    for head, top in enumerate(top_H):
        gamma = min(1.0, tau / top)
        q, kv = weights["attention.q.weight"][10 * head : 10 * head + 10], weights["attention.kv_b.weight"]
        q[:6] *= gamma**0.5
        q[6:] *= gamma
        kv[12 * head : 12 * head + 6] *= gamma**0.5


@pytest.mark.parametrize("split", ["matrix", "piece", "head"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_three_whole_steps_against_a_float64_reference(split, nesterov):
    model = Small()
    config = OptimConfig(lr=0.02, adamw_lr=0.01, split=split, nesterov=nesterov, tau=5.0)
    optimizer = MuonClip.for_model(model, config)
    weights = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    momenta = {name: torch.zeros_like(w) for name, w in weights.items()}
    moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in weights.items()}
    muon = {"kv_b", "gate_up", "down", "attention.q.weight", "attention.kv_a.weight", "attention.kv_b.weight"}
    for step in range(1, 4):
        give_gradients(model, step)
        top_H = [2.0, 7.0 * step, 50.0, 5.0]
        model.attention.max_logits_H.copy_(torch.tensor(top_H))
        factor = 1 / step
        optimizer.scale_lr(factor)
        for name, parameter in model.named_parameters():
            g, w = parameter.grad.double(), weights[name]
            if name in muon:
                momenta[name] = 0.95 * momenta[name] + g
                m = g + 0.95 * momenta[name] if nesterov else momenta[name]
                # The attention of the test publishes nothing: its weights are one matrix each.
                w.copy_(reference_muon(name, w, m, 0.02 * factor, 0.1, split).view(w.shape))
            else:
                first, second = moments[name]
                first.mul_(0.9).add_(0.1 * g)
                second.mul_(0.95).add_(0.05 * g * g)
                w -= 0.01 * factor * (first / (1 - 0.9**step)) / ((second / (1 - 0.95**step)).sqrt() + 1e-8)
        reference_clip(weights, top_H, 5.0)
        optimizer.step()
        assert optimizer.last_clip.clipped_heads == 2
    for name, parameter in model.named_parameters():
        # Newton-Schulz enlarges rounding by up to 3.4445⁵ ≈ 500 in directions of small singular values.
        torch.testing.assert_close(parameter.double(), weights[name], rtol=2e-5, atol=2e-5, msg=lambda m, n=name: n + m)


def test_the_splits_differ():
    ends = []
    for split in ("matrix", "piece", "head"):
        model = Small()
        optimizer = MuonClip.for_model(model, OptimConfig(lr=0.02, split=split))
        give_gradients(model, 1)
        optimizer.step()
        ends.append(model.kv_b.detach())
    assert (ends[0] - ends[1]).abs().max() > 1e-3
    assert (ends[1] - ends[2]).abs().max() > 1e-3


def test_adamw_part_equals_torch():
    ours, theirs = Small(), Small()
    optimizer = MuonClip.for_model(ours, OptimConfig(lr=0.02, adamw_lr=0.01, adamw_betas=(0.8, 0.9)))
    names = [row.name for row in optimizer.plan() if row.algorithm == "adamw"]
    assert names == ["norm", "router", "embed.weight"]
    peer = torch.optim.AdamW([theirs.get_parameter(n) for n in names], lr=0.01, betas=(0.8, 0.9), weight_decay=0.0)
    for step in range(5):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        peer.step()
    for name in names:
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(32, 32), (64, 32), (32, 64)])
def test_plain_matrices_equal_torch_muon(shape, nesterov):
    """torch's momentum is an average, ours a sum: the same direction. Both in bf16, 8 bits of mantissa."""
    ours, theirs = (nn.Linear(shape[1], shape[0], bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    config = OptimConfig(lr=0.02, tau=None, nesterov=nesterov, newton_schulz_dtype="bf16")
    optimizer = MuonClip.for_model(ours, config)
    peer = torch.optim.Muon(
        theirs.parameters(), lr=0.02, weight_decay=0.1, nesterov=nesterov, adjust_lr_fn="match_rms_adamw"
    )
    start = ours.weight.detach().clone()
    for step in range(5):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        peer.step()
    moved = (ours.weight - start).norm()
    assert (ours.weight - theirs.weight).norm() < 0.02 * moved


def test_the_update_has_the_rms_of_adamw():
    layer = nn.Linear(256, 64, bias=False)
    optimizer = MuonClip.for_model(layer, OptimConfig(lr=1.0, weight_decay=0.0, tau=None))
    start = layer.weight.detach().clone()
    give_gradients(layer, 0)
    optimizer.step()
    rms = (layer.weight - start).square().mean().sqrt().item()
    assert 0.2 * 0.68 <= rms <= 0.2 * 1.21  # the band of Newton-Schulz


def test_state_round_trips_bit_for_bit():
    first = Small()
    optimizer = MuonClip.for_model(first, OptimConfig(lr=0.02, tau=5.0))
    for step in range(3):
        give_gradients(first, step)
        optimizer.step()
    second = Small(seed=1)
    second.load_state_dict(first.state_dict())
    resumed = MuonClip.for_model(second, OptimConfig(lr=0.5, tau=5.0))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, opt in ((first, optimizer), (second, resumed)):
        for step in range(3, 6):
            give_gradients(model, step)
            opt.step()
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(value, resumed.state[second.get_parameter(name)][key]), (name, key)
    assert set(optimizer.state[first.down]) == {"momentum"}
    assert set(optimizer.state[first.norm]) == {"exp_avg", "exp_avg_sq", "step"}


def test_every_parameter_moves_and_none_is_left_out():
    model = Small()
    optimizer = MuonClip.for_model(model, OptimConfig())
    assert {row.name for row in optimizer.plan()} == {name for name, _ in model.named_parameters()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    give_gradients(model, 0)
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_parameters_without_gradient_stay_and_get_no_state():
    model = Small()
    optimizer = MuonClip.for_model(model, OptimConfig())
    give_gradients(model, 0)
    model.down.grad = model.norm.grad = None
    before = model.down.detach().clone(), model.norm.detach().clone()
    optimizer.step()
    assert torch.equal(model.down, before[0])
    assert torch.equal(model.norm, before[1])
    assert model.down not in optimizer.state
    for parameter in model.parameters():
        parameter.grad = None
    optimizer.step()


def test_an_expert_without_tokens_only_decays():
    model = Small()
    optimizer = MuonClip.for_model(model, OptimConfig(lr=0.1, weight_decay=0.5))
    give_gradients(model, 0)
    model.down.grad[2] = 0
    before = model.down.detach().clone()
    optimizer.step()
    torch.testing.assert_close(model.down[2], before[2] * 0.95)


def test_learning_rates_scale_from_their_peaks_and_torch_schedulers_work():
    optimizer = MuonClip.for_model(Small(), OptimConfig(lr=0.02, adamw_lr=0.01))
    for factor in (0.5, 0.1):
        optimizer.scale_lr(factor)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02 * factor, 0.01 * factor])
    optimizer.scale_lr(1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.005])


def test_refusals():
    with pytest.raises(ValueError, match=r"QK-Clip is on \(tau = 100\) but no module of Linear"):
        MuonClip.for_model(nn.Linear(4, 4), OptimConfig())
    with pytest.raises(ValueError, match=r"parameter weight is torch.bfloat16: MuonClip updates float32 weights"):
        MuonClip.for_model(nn.Linear(4, 4, bias=False).bfloat16(), OptimConfig(tau=None))


def test_it_learns():
    """A two-layer network learns a linear map of full rank; the closure form of step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 16))
    x, target = torch.randn(256, 16), torch.linalg.qr(torch.randn(16, 16)).Q
    optimizer = MuonClip.for_model(model, OptimConfig(lr=0.02, weight_decay=0.0, tau=None))

    def closure():
        optimizer.zero_grad()
        loss = (model(x) - x @ target).square().mean()
        loss.backward()
        return loss.item()

    losses = []
    for step in range(100):
        optimizer.scale_lr(1 - step / 100)
        losses.append(optimizer.step(closure))
    assert losses[-1] < 0.01 * losses[0]
