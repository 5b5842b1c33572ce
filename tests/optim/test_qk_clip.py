import math
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip
from openk2.optim.qk_clip import clip_

from .attention import make

KINDS = ["mla", "mha", "gqa", "mqa"]


def grown(kind, seed=0):
    """An attention module whose heads have logits of very different size, and an input."""
    torch.manual_seed(seed)
    module = make(kind)
    with torch.no_grad():
        for name, view in module.qk_views().items():
            if name.startswith("q"):
                view.mul_(torch.tensor([1.0, 20.0, 60.0, 200.0]).view(-1, *[1] * (view.ndim - 1)))
    return module, torch.randn(3, 12, 16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [0.5, 0.0, 0.8])
def test_each_head_scales_by_exactly_gamma(kind, alpha):
    module, x = grown(kind)
    before = module(x).detach()
    top_H = module.max_logits_H.clone()
    tau = top_H.sort().values[1].item() * 1.01  # two heads lie below
    report = clip_([module], tau, alpha)
    assert module.max_logits_H.isneginf().all()
    after = module(x).detach()
    gamma_H = (tau / top_H).clamp(max=1)
    torch.testing.assert_close(after, before * gamma_H[:, None, None], rtol=1e-5, atol=1e-5 * tau)
    assert module.max_logits_H.max() <= tau * (1 + 1e-5)
    assert (report.clipped_heads, report.num_heads, report.num_invalid) == (2, 4, 0)
    assert report.max_logit == top_H.max()
    assert report.min_gamma == pytest.approx(gamma_H.min().item())
    assert report.mean_gamma == pytest.approx(gamma_H.mean().item())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_an_unclipped_head_and_shared_keys_stay(kind):
    module, x = grown(kind)
    module(x)
    before = {name: view.clone() for name, view in module.qk_views().items()}
    shared = module.kv_a.weight.clone() if kind == "mla" else None
    values = module.kv_b.weight.unflatten(0, (4, -1))[:, module.nope :].clone() if kind == "mla" else None
    clip_([module], module.max_logits_H.sort().values[0].item() * 1.01)
    for name, view in module.qk_views().items():
        assert torch.equal(view[0], before[name][0])  # in a group, one unclipped head holds the key
        assert not torch.equal(view[-1], before[name][-1]) or (kind == "mqa" and name.startswith("k"))
    if kind == "mla":
        assert torch.equal(module.kv_a.weight, shared)
        assert torch.equal(module.kv_b.weight.unflatten(0, (4, -1))[:, module.nope :], values)


def test_mla_factors_are_the_papers():
    module, _ = grown("mla")
    before = {name: view.clone() for name, view in module.qk_views().items()}
    module.max_logits_H.copy_(torch.tensor([50.0, 100.0, 200.0, 400.0]))
    clip_([module], 100.0)
    gamma = torch.tensor([1.0, 1.0, 0.5, 0.25])[:, None, None]
    after = module.qk_views()
    torch.testing.assert_close(after["q_nope"], before["q_nope"] * gamma.sqrt())
    torch.testing.assert_close(after["k_nope"], before["k_nope"] * gamma.sqrt())
    torch.testing.assert_close(after["q_rope"], before["q_rope"] * gamma)


def test_maxima_that_mean_nothing_clip_nothing_and_are_counted():
    module, _ = grown("mha")
    before = {name: view.clone() for name, view in module.qk_views().items()}
    module.max_logits_H.copy_(torch.tensor([math.nan, math.inf, -3.0, -math.inf]))
    report = clip_([module], 1.0)
    assert (report.clipped_heads, report.num_invalid, report.max_logit, report.min_gamma) == (0, 4, -3.0, 1.0)
    assert all(torch.equal(view, before[name]) for name, view in module.qk_views().items())


def test_a_nan_in_one_head_does_not_stop_the_clip_of_another():
    module, _ = grown("gqa")
    module.max_logits_H.copy_(torch.tensor([math.nan, 1.0, 1.0, 8.0]))
    report = clip_([module], 2.0)
    assert (report.clipped_heads, report.num_invalid, report.max_logit) == (1, 1, 8.0)
    assert all(view.isfinite().all() for view in module.qk_views().values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_at_rest_brings_the_maximum_under_tau(kind):
    """lr → 0, no decay: the step is the clip alone. The maximum runs over micro-batches."""
    module, x = grown(kind)
    config = OptimConfig(weight_decay=0.0, tau=30.0)
    optimizer = MuonClip.for_model(module, config)
    optimizer.scale_lr(0.0)
    for micro in x:
        module(micro[None]).square().mean().backward()
    optimizer.step()
    assert optimizer.last_clip.clipped_heads > 0
    module(x)
    assert 0.9 * 30 < module.max_logits_H.max() <= 30 * (1 + 1e-5)


def _rank(rank, port, results):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    modules = [grown("mha")[0], grown("mla")[0]]
    tops = (
        [[50.0, 400.0, 1.0, 1.0], [1.0, 1.0, 1.0, math.nan]]
        if rank
        else [[200.0, 100.0, 1.0, 1.0], [900.0, 1.0, 1.0, 1.0]]
    )
    for module, top in zip(modules, tops, strict=True):
        module.max_logits_H.copy_(torch.tensor(top))
    report = clip_(modules, 100.0)
    weights = torch.cat([view.flatten() for module in modules for view in module.qk_views().values()])
    results.put((rank, report.max_logit, report.clipped_heads, report.num_invalid, weights.double().sum().item()))
    dist.destroy_process_group()


def test_ranks_agree_on_the_maximum():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_rank, (port, results), nprocs=2)
    first, second = sorted(results.get() for _ in range(2))
    assert first[1:] == second[1:]
    assert first[1:4] == (900.0, 3, 1)
