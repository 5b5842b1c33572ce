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
def test_per_layer_all_heads_of_a_module_take_its_smallest_gamma(kind):
    modules = [grown(kind, seed)[0] for seed in (0, 1)]
    x = torch.randn(3, 12, 16)
    before = [module(x).detach() for module in modules]
    modules[0].max_logits_H.copy_(torch.tensor([10.0, 20.0, math.nan, 200.0]))
    modules[1].max_logits_H.copy_(torch.tensor([10.0, 20.0, 90.0, 99.0]))
    report = clip_(modules, 100.0, per="layer")
    torch.testing.assert_close(modules[0](x).detach(), before[0] * 0.5)
    assert torch.equal(modules[1](x).detach(), before[1])
    assert report.gamma_S.tolist() == [0.5] * 4 + [1.0] * 4
    assert report.clipped_heads == 4


@pytest.mark.parametrize(
    ("top", "limit"),
    [
        ([1.0, 2.0, 3.0, 400.0], 100.0),  # four times the median is less than τ
        ([30.0, 50.0, 60.0, 400.0], 200.0),  # the lower of two medians
        ([math.nan, 50.0, -math.inf, 400.0], 200.0),
        ([math.nan, math.nan, math.inf, -math.inf], None),
        ([-5.0, -4.0, -3.0, 400.0], 100.0),
    ],
)
def test_the_limit_follows_the_median_but_never_below_tau(top, limit):
    module, _ = grown("mha")
    module.max_logits_H.copy_(torch.tensor(top))
    report = clip_([module], 100.0, tau_over_median=4.0)
    assert report.gamma_S.tolist() == [1.0, 1.0, 1.0, limit / 400.0 if limit else 1.0]


def test_a_shared_key_follows_the_least_clipped_query_of_its_group():
    module, _ = grown("gqa")
    before = {name: view.clone() for name, view in module.qk_views().items()}
    module.max_logits_H.copy_(torch.tensor([200.0, 400.0, 50.0, 800.0]))
    clip_([module], 100.0, alpha=0.25)
    gamma, key = torch.tensor([0.5, 0.25, 1.0, 0.125]), torch.tensor([0.5**0.75, 1.0])
    after = module.qk_views()
    for name in ("", "_bias"):
        factor = lambda f, x: x * f.view(-1, *[1] * (x.ndim - 1))  # noqa: E731
        torch.testing.assert_close(after["k" + name], factor(key, before["k" + name]))
        torch.testing.assert_close(after["q" + name], factor(gamma / key.repeat_interleave(2), before["q" + name]))


def test_the_report_holds_every_head_and_outlives_the_reset():
    modules = [grown("mha")[0], grown("mla")[0]]
    modules[0].max_logits_H.copy_(torch.tensor([50.0, 200.0, math.nan, -math.inf]))
    modules[1].max_logits_H.copy_(torch.tensor([-1.0, 100.0, 400.0, 1.0]))
    report = clip_(modules, 100.0)
    clip_(modules, 100.0)
    assert report.max_logits_S.tolist() == [50.0, 200.0, math.inf, -math.inf, -1.0, 100.0, 400.0, 1.0]
    assert report.gamma_S.tolist() == [1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.25, 1.0]
    assert not report.gamma_S.requires_grad
    assert (report.max_logit, report.clipped_heads, report.num_heads, report.num_invalid) == (400.0, 2, 8, 3)


def test_muonclip_hands_its_settings_to_the_clip():
    module, _ = grown("mha")
    optimizer = MuonClip.for_model(module, qk_clip_per="layer", tau_over_median=2.0, tau=10.0)
    module.max_logits_H.copy_(torch.tensor([10.0, 20.0, 30.0, 80.0]))
    optimizer.step()
    assert optimizer.last_clip.gamma_S.tolist() == [0.5] * 4


def test_a_clip_reads_no_number():
    """A meta tensor has none: looking at one is an error."""
    module, _ = grown("mla")
    report = clip_([module.to("meta")], 100.0, per="layer", tau_over_median=1.0)
    assert report.num_heads == 4
    with pytest.raises(NotImplementedError):
        _ = report.max_logit


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_clip_waits_for_no_device():
    module = grown("mla")[0].cuda()
    clip_([module], 100.0, tau_over_median=1.0)
    module.max_logits_H.copy_(torch.tensor([50.0, 100.0, 200.0, 400.0]))
    torch.cuda.set_sync_debug_mode("error")
    try:
        report = clip_([module], 100.0, tau_over_median=1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert report.clipped_heads == 2


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
