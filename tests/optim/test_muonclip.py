import copy
import math
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip, NonFiniteGradientError

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
    with pytest.raises(ValueError, match=r"QK-Clip is on \(tau = 100\) but there is no attention to clip"):
        MuonClip(nn.Linear(4, 4).parameters())
    with pytest.raises(ValueError, match="not both: lr"):
        MuonClip.for_model(nn.Linear(4, 4), OptimConfig(), lr=1.0)
    with pytest.raises(ValueError, match="has no parameter that takes a gradient"):
        MuonClip.for_model(nn.ReLU(), tau=None)


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        (torch.ones(4, 4, dtype=torch.bfloat16), r"parameter 0 is torch.bfloat16: MuonClip updates dense float32"),
        (torch.ones(4, 4, dtype=torch.complex64), r"parameter 0 is torch.complex64"),
        (torch.eye(4).to_sparse(), r"parameter 0 is sparse"),
        (torch.ones(4), r"parameter 0: role matrix wants \[..., out, in\], its shape is \[4\]; Muon updates matrices"),
        (torch.ones(0, 4), r"parameter 0 of shape \[0, 4\] has no elements"),
        (
            published(nn.Parameter(torch.ones(7, 4)), "matrix", 2, (("q", 3),)),
            r"parameter 0: the layout tells of 2 heads .*, the weight has 7 rows",
        ),
    ],
)
def test_parameters_it_cannot_update_are_refused_by_name(parameter, said):
    with pytest.raises(ValueError, match=said):
        MuonClip([parameter.requires_grad_()], tau=None)
    optimizer = MuonClip([torch.ones(2, 2, requires_grad=True)], tau=None)
    with pytest.raises(ValueError, match=said.replace("parameter 0", "parameter 1")):
        optimizer.add_param_group({"params": [parameter]})
    assert len(optimizer.param_groups) == 1


def test_groups_given_by_hand_and_added_later_equal_those_of_a_model():
    by_model, by_hand = Small(), Small()
    first = MuonClip.for_model(by_model, lr=0.02, adamw_lr=0.01, tau=5.0)
    muon = [row.name for row in first.plan() if row.algorithm == "muon"]
    adamw = [row.name for row in first.plan() if row.algorithm == "adamw"]
    second = MuonClip(
        [{"params": [by_hand.get_parameter(name) for name in muon]}],
        lr=0.02,
        adamw_lr=0.01,
        tau=5.0,
        attention=[by_hand.attention],
    )
    second.add_param_group({"params": [by_hand.get_parameter(name) for name in adamw], "algorithm": "adamw"})
    for step in range(3):
        for model, optimizer in ((by_model, first), (by_hand, second)):
            give_gradients(model, step)
            model.attention.max_logits_H.fill_(7.0)
            optimizer.step()
    for name, parameter in by_model.named_parameters():
        assert torch.equal(parameter, by_hand.get_parameter(name)), name


def test_a_group_keeps_its_own_settings():
    slow, fast = (nn.Parameter(torch.zeros(8, 16)) for _ in range(2))
    optimizer = MuonClip([{"params": [slow], "lr": 0.1, "scale": "spectral"}, {"params": [fast]}], lr=1.0, tau=None)
    slow.grad, fast.grad = torch.ones(8, 16), torch.ones(8, 16)
    optimizer.step()
    ratio = 0.1 * math.sqrt(8 / 16) / (0.2 * math.sqrt(16))
    torch.testing.assert_close(slow.detach(), fast.detach() * ratio)


@pytest.mark.parametrize(
    ("scale", "wide", "tall"),
    [("match_rms_adamw", 0.8, 0.8), ("original", 1.0, 2.0), ("spectral", 0.5, 2.0)],
)
def test_scales(scale, wide, tall):
    for shape, factor in (((4, 16), wide), ((16, 4), tall)):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        MuonClip([weight], lr=1.0, scale=scale, tau=None, newton_schulz="polar_express").step()
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(factor, rel=0.13)


def test_cautious_decay_spares_what_the_update_makes_larger():
    start = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    ends = {}
    for name, decay, cautious in (("none", 0.0, False), ("all", 0.5, False), ("cautious", 0.5, True)):
        weight = nn.Parameter(start.clone())
        weight.grad = gradient.clone()
        MuonClip([weight], lr=0.1, weight_decay=decay, cautious=cautious, tau=None).step()
        ends[name] = weight.detach()
    shrinks = start * (start - ends["none"]) >= 0
    assert 0 < shrinks.sum() < 64
    torch.testing.assert_close(ends["cautious"], torch.where(shrinks, ends["all"], ends["none"]))


def test_momentum_in_bf16_takes_half_the_memory_and_the_same_way():
    ends = []
    for dtype in ("fp32", "bf16"):
        model = Small()
        optimizer = MuonClip.for_model(model, lr=0.02, momentum_dtype=dtype)
        for step in range(5):
            give_gradients(model, step)
            optimizer.step()
        ends.append(model.down.detach() - Small().down.detach())
        resumed = MuonClip.for_model(model, lr=0.02, momentum_dtype=dtype)
        resumed.load_state_dict(optimizer.state_dict())
        wanted = torch.bfloat16 if dtype == "bf16" else torch.float32
        assert optimizer.state[model.down]["momentum"].dtype == resumed.state[model.down]["momentum"].dtype == wanted
    assert 0 < (ends[0] - ends[1]).norm() < 0.02 * ends[0].norm()


def test_gradients_that_are_not_finite():
    model = Small()
    for number, (choice, bad) in enumerate((("skip", math.nan), ("skip", math.inf), ("raise", -math.inf))):
        optimizer = MuonClip.for_model(model, nonfinite=choice)
        give_gradients(model, number)
        model.down.grad[1, 2, 3] = bad
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        if choice == "raise":
            with pytest.raises(NonFiniteGradientError, match="in the gradient of down; nothing"):
                optimizer.step()
        else:
            optimizer.step()
            optimizer.step()
            assert optimizer.skipped_steps == 2
        assert not optimizer.state
        assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
        give_gradients(model, number)
        optimizer.step()
        assert not torch.equal(model.down, before["down"])


def test_a_state_of_another_shape_is_refused_before_anything_changes():
    small, large = nn.Linear(4, 4, bias=False), nn.Linear(4, 6, bias=False)
    states = []
    for model in (small, large):
        optimizer = MuonClip.for_model(model, tau=None)
        give_gradients(model, 0)
        optimizer.step()
        states.append(optimizer)
    before = states[0].state[small.weight]["momentum"].clone()
    with pytest.raises(ValueError, match=r"momentum of weight has shape \[6, 4\] in the state, the parameter \[4, 4\]"):
        states[0].load_state_dict(states[1].state_dict())
    assert torch.equal(states[0].state[small.weight]["momentum"], before)


def test_hooks_schedulers_and_grad_scaler_work_as_with_any_optimizer():
    model = Small()
    optimizer = MuonClip.for_model(model, lr=0.02, adamw_lr=0.01)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4),
        ],
        milestones=[2],
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    plain = Small()
    reference = MuonClip.for_model(plain, lr=0.02, adamw_lr=0.01)
    for step in range(4):
        give_gradients(plain, step)
        for group, mine in zip(reference.param_groups, optimizer.param_groups, strict=True):
            group["lr"] = mine["lr"]
        reference.step()
        scaler.scale(torch.ones(()))
        give_gradients(model, step)
        for parameter in model.parameters():
            parameter.grad *= 8.0
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
    assert seen == ["before", "after"] * 4
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-6, atol=1e-7)
    give_gradients(model, 9)
    model.norm.grad[0] = math.inf
    before = model.norm.detach().clone()
    scaler.scale(torch.ones(()))
    scaler.step(optimizer)
    assert torch.equal(model.norm, before)


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


def test_a_refused_group_leaves_nothing_behind():
    weight, bad = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4).bfloat16())
    optimizer = MuonClip([nn.Parameter(torch.ones(2, 2))], lr=0.1, tau=None)
    with pytest.raises(ValueError, match="bfloat16"):
        optimizer.add_param_group({"params": [weight, bad], "algorithm": "adamw"})
    assert len(optimizer.plan()) == 1
    optimizer.add_param_group({"params": [weight]})
    assert [row.algorithm for row in optimizer.plan()] == ["muon", "muon"]
    weight.grad = torch.eye(4)
    optimizer.step()
    assert not torch.equal(weight, torch.ones(4, 4))


@pytest.mark.parametrize("choice", ["skip", "raise"])
def test_without_any_gradient_nothing_is_looked_at(choice):
    model = Small()
    optimizer = MuonClip.for_model(model, nonfinite=choice)
    optimizer.step()
    assert optimizer.skipped_steps == 0


def test_a_skipped_step_forgets_its_logits():
    model = Small()
    optimizer = MuonClip.for_model(model, nonfinite="skip", tau=5.0)
    give_gradients(model, 0)
    model.down.grad[0, 0, 0] = math.nan
    model.attention.max_logits_H.fill_(math.nan)
    optimizer.step()
    give_gradients(model, 1)
    model.attention.max_logits_H.copy_(torch.tensor([7.0, 1.0, 2.0, 3.0]))
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert (optimizer.last_clip.clipped_heads, optimizer.last_clip.num_invalid) == (1, 0)


def test_it_refuses_to_be_copied():
    optimizer = MuonClip.for_model(Small())
    with pytest.raises(TypeError, match="load its state_dict"):
        copy.deepcopy(optimizer)


def test_what_was_unfrozen_or_added_later_is_missed_by_name():
    """Silently never trained, otherwise."""
    model = Small()
    model.down.requires_grad_(False)
    optimizer = MuonClip.for_model(model)
    give_gradients(model, 0)
    optimizer.step()  # frozen still: what its gradient says is nobody's matter
    model.down.requires_grad_()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="parameter down has a gradient but was frozen or not there"):
        optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    optimizer.add_param_group({"params": [("down", model.down)]})
    optimizer.step()
    assert not torch.equal(model.down, before["down"])
    model.late = nn.Linear(4, 4)
    optimizer.step()  # without a gradient it is not trained yet
    give_gradients(model, 1)
    with pytest.raises(ValueError, match=r"parameter late\.weight has a gradient"):
        optimizer.step()


def test_a_sparse_gradient_is_refused_by_name():
    model = nn.Sequential(nn.Embedding(8, 4, sparse=True), nn.Linear(4, 2))
    by_hand = [{"params": model[1].parameters(), "algorithm": "adamw"}, {"params": [model[0].weight]}]
    optimizers = {"0.weight": MuonClip.for_model(model, tau=None), "2": MuonClip(by_hand, tau=None)}
    model(torch.tensor([1, 2])).sum().backward()
    before = model[1].weight.detach().clone()
    for name, optimizer in optimizers.items():
        with pytest.raises(ValueError, match=rf"gradient of parameter {name} \[8, 4\] in group 1 is sparse: .* dense"):
            optimizer.step()
    assert torch.equal(model[1].weight, before)
