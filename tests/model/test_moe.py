import torch

from openk2.model.config import ModelConfig
from openk2.model.experts import run_experts_plain
from openk2.model.moe import MoE, Router, Routing

CONFIG = ModelConfig(
    vocab_size=50, hidden_size=16, num_layers=2, intermediate_size=16, moe_intermediate_size=8, num_heads=2,
    kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4, num_experts=8, num_experts_per_token=2,
    routed_scaling_factor=2.5,
)  # fmt: skip


def moe(config=CONFIG):
    module = MoE(config, 1)
    g = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.3, generator=g)
    return module


def test_fast_layer_equals_plain_layer_in_values_and_gradients():
    def plain_dispatch(x, chosen, gates, experts):
        return run_experts_plain(x, chosen, gates, experts.gate_up, experts.down)

    module = moe()
    x = torch.randn(2, 9, 16)
    results = []
    for arguments in ({}, {"dispatch": plain_dispatch}):
        module.zero_grad()
        out = module(x, **arguments)
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad.clone() for p in module.parameters())])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_routing_is_recorded_and_replayed():
    module = moe()
    x = torch.randn(2, 9, 16)
    recorded = Routing()
    out = module(x, recorded)
    assert recorded.experts[1].shape == (2, 9, 2)
    module.gate.e_score_correction_bias += torch.randn(8) * 5  # another choice, were it not replayed
    assert not torch.allclose(module(x), out)
    torch.testing.assert_close(module(x, Routing(recorded.experts)), out)


def test_gates_of_replayed_experts_come_from_the_current_scores():
    router = moe().gate
    x = torch.randn(5, 16)
    chosen = torch.tensor([[3, 6]] * 5)
    _, gates = router(x, chosen)
    scores = (x @ router.weight.T).sigmoid()[:, [3, 6]]
    torch.testing.assert_close(gates, 2.5 * scores / scores.sum(-1, keepdim=True))
    gates[:, 0].sum().backward()
    assert router.weight.grad[[3, 6]].abs().min() > 0
    assert router.weight.grad[[0, 1, 2, 4, 5, 7]].count_nonzero() == 0


def test_load_counts_are_exact_and_add_up():
    router = moe().gate
    chosen = [router(torch.randn(30, 16))[0] for _ in range(3)]
    expected = torch.stack([(torch.cat(chosen) == expert).sum() for expert in range(8)]).float()
    assert torch.equal(router.load_E, expected)
    router.eval()
    router(torch.randn(30, 16))
    assert torch.equal(router.load_E, expected)


def test_the_balance_rule_reduces_imbalance():
    router = moe().gate
    x = torch.randn(400, 16) + 0.5  # a common direction favours some experts
    imbalances = []
    for _ in range(200):
        router(x)
        imbalances.append(router.rebalance(0.01))
    assert imbalances[0] > 1.5
    assert imbalances[-1] < 1.15
    assert router.load_E.sum() == 0


def test_the_bias_chooses_but_does_not_weigh():
    router = moe().gate
    router.e_score_correction_bias[:] = torch.tensor([9.0, 8.0, 0, 0, 0, 0, 0, 0])
    x = torch.randn(5, 16)
    chosen, gates = router(x)
    assert torch.equal(chosen.sort(dim=-1).values, torch.tensor([[0, 1]] * 5))
    scores = (x @ router.weight.T).sigmoid().gather(1, chosen)
    torch.testing.assert_close(gates, 2.5 * scores / scores.sum(-1, keepdim=True))


def test_group_limited_routing_equals_brute_force():
    config = CONFIG.model_copy(update={"num_expert_groups": 4, "num_groups_per_token": 2, "num_experts_per_token": 3})
    router = Router(config)
    router.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    router.e_score_correction_bias.normal_(0, 0.3, generator=torch.Generator().manual_seed(2))
    x = torch.randn(60, 16)
    chosen, _ = router(x)
    biased = (x @ router.weight.T).sigmoid() + router.e_score_correction_bias
    for token, row in enumerate(biased.tolist()):
        groups = [row[2 * g : 2 * g + 2] for g in range(4)]
        best = sorted(range(4), key=lambda g: -sum(groups[g]))[:2]  # a group counts by its two best (here: all)
        reachable = [e for e in range(8) if e // 2 in best]
        assert sorted(chosen[token].tolist()) == sorted(sorted(reachable, key=lambda e: -row[e])[:3])
