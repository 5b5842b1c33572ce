import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from openk2.model import attention_kernels, rope
from openk2.model.attention import LatentAttention
from openk2.model.attention_kernels import attend, attend_plain, same_document_mask, visibility
from openk2.model.config import ModelConfig

CONFIG = ModelConfig(
    vocab_size=50, hidden_size=24, num_layers=1, intermediate_size=16, moe_intermediate_size=8, num_heads=3,
    q_lora_rank=10, kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5,
)  # fmt: skip


class MinimalCache:
    """All latents so far, one sequence a row."""

    def __init__(self):
        self.latents = []

    def write(self, layer, latent_BTL):
        self.latents.append(latent_BTL)

    def read(self, layer):
        latent_BSL = torch.cat(self.latents, dim=1)
        num_new, num_seen = self.latents[-1].shape[1], latent_BSL.shape[1]
        bias_TS = latent_BSL.new_full((num_new, num_seen), -torch.inf).triu_(num_seen - num_new + 1)
        return latent_BSL, bias_TS.expand(len(latent_BSL), -1, -1)

    @property
    def fresh(self):
        return len(self.latents) == 1


def attention(seed=0):
    torch.manual_seed(seed)
    return LatentAttention(CONFIG, 0).double()


def turns(batch, tokens, start=0):
    positions = torch.arange(start, start + tokens).expand(batch, -1)
    return rope.turns(CONFIG, positions, rope.frequencies(CONFIG).double())


def documents(batch, tokens, rate, seed):
    cuts = torch.rand(batch, tokens, generator=torch.Generator().manual_seed(seed)) < rate
    return cuts.cumsum(1)


def operands(batch, tokens, seed=0, heads=2, qk=6, v=4):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, tokens, heads, w, dtype=torch.double, generator=g) for w in (qk, qk, v)]


@settings(max_examples=25)
@given(
    tokens=st.integers(1, 90),
    rate=st.sampled_from([0.0, 0.02, 0.2, 1.0]),
    block=st.sampled_from([(7, 3), (16, 16), (128, 32)]),
    recurring=st.booleans(),
    seed=st.integers(0, 999),
)
def test_blocks_equal_the_plain_twin(tokens, rate, block, recurring, seed):
    doc_ids = documents(2, tokens, rate, seed)
    if recurring:  # a document that goes on after another one
        doc_ids = doc_ids % 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_kernels, "_MOST_ROWS", block[0])
        patch.setattr(attention_kernels, "_FEWEST_ROWS", block[1])
        visible = visibility(doc_ids, torch.empty(2, tokens, dtype=torch.double))
    results = []
    for kernel, seen in ((attend, visible), (attend_plain, same_document_mask(doc_ids))):
        qkv = [x.requires_grad_() for x in operands(2, tokens, seed)]
        out, max_logits = kernel(*qkv, seen, 0.3)
        weight = torch.randn(out.shape, dtype=torch.double, generator=torch.Generator().manual_seed(1))
        results.append((out, max_logits, *torch.autograd.grad(out, qkv, weight)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_no_documents_means_one_a_row():
    qkv = operands(2, 200)
    shape = torch.empty(2, 200, dtype=torch.double)
    alone, _ = attend(*qkv, visibility(None, shape), 0.3)
    one, _ = attend(*qkv, visibility(torch.zeros(2, 200, dtype=torch.long), shape), 0.3)
    assert torch.equal(alone, one)


def test_blocks_leave_out_what_nobody_sees():
    doc_ids = torch.arange(4).repeat_interleave(64).unsqueeze(0)
    visible = visibility(doc_ids, torch.empty(1, 256))
    assert visible.spans == [(0, s, s + 64, s) for s in (0, 64, 128, 192)]


def test_absorbed_equals_expanded():
    module = attention().eval()
    x = torch.randn(2, 9, 24, dtype=torch.double)
    expanded = module(x, turns(2, 9))
    cache = MinimalCache()
    prefill = module(x[:, :5], turns(2, 5), cache=cache)
    steps = [module(x[:, t : t + 1], turns(2, 1, t), cache=cache) for t in range(5, 9)]
    torch.testing.assert_close(torch.cat((prefill, *steps), dim=1), expanded)


def test_documents_are_isolated():
    module = attention().eval()
    x = torch.randn(1, 12, 24, dtype=torch.double)
    doc_ids = torch.tensor([[0] * 5 + [1] * 7])
    before = module(x, turns(1, 12), visibility(doc_ids, x))
    changed = x.clone()
    changed[:, :5] += 1
    after = module(changed, turns(1, 12), visibility(doc_ids, x))
    assert torch.equal(before[:, 5:], after[:, 5:])
    assert not torch.allclose(before[:, :5], after[:, :5])


def brute_force_max_logits(module, x, doc_ids):
    """Largest q·k·scale over visible pairs by loops over heads and rows, in float64."""
    c = module.config
    t = turns(*x.shape[:2])
    q = rope.rotate_plain(module.q_b_proj(module.q_a_layernorm(module.q_a_proj(x))).unflatten(-1, (c.num_heads, -1)), t)
    latent, k_rope = module.kv_a_proj_with_mqa(x).split((c.kv_lora_rank, c.qk_rope_head_dim), dim=-1)
    k_nope = module.kv_b_proj(module.kv_a_layernorm(latent)).unflatten(-1, (c.num_heads, -1))[..., : c.qk_nope_head_dim]
    k_rope = rope.rotate_plain(k_rope.unsqueeze(-2), t)[..., 0, :]
    largest = torch.full((c.num_heads,), -math.inf, dtype=torch.double)
    for row in range(len(x)):
        for i in range(x.shape[1]):
            for j in range(i + 1):
                if doc_ids[row, i] == doc_ids[row, j]:
                    for head in range(c.num_heads):
                        key = torch.cat((k_nope[row, j, head], k_rope[row, j]))
                        largest[head] = max(largest[head], q[row, i, head] @ key * module.softmax_scale)
    return largest


def test_max_logits_equal_brute_force_and_accumulate_over_micro_batches():
    module = attention()
    batches = [(torch.randn(2, 11, 24, dtype=torch.double), documents(2, 11, 0.3, seed)) for seed in (0, 1)]
    assert torch.isinf(module.max_logits_H).all()
    for x, doc_ids in batches:
        module(x, turns(2, 11), visibility(doc_ids, x))
    with torch.no_grad():
        expected = torch.stack([brute_force_max_logits(module, *batch) for batch in batches]).amax(0)
    torch.testing.assert_close(module.max_logits_H, expected)


def test_max_logits_are_left_alone_in_eval_and_do_not_enter_the_state():
    module = attention().eval()
    module(torch.randn(1, 4, 24, dtype=torch.double), turns(1, 4))
    assert torch.isinf(module.max_logits_H).all()
    assert "max_logits_H" not in module.state_dict()


def test_max_logits_do_not_change_under_recompute():
    x = torch.randn(1, 8, 24, dtype=torch.double, requires_grad=True)
    plain, recomputed = attention(), attention()
    plain(x, turns(1, 8)).sum().backward()
    once = plain.max_logits_H.clone()
    checkpoint(recomputed, x, turns(1, 8), use_reentrant=False).sum().backward()
    assert torch.equal(recomputed.max_logits_H, once)


def test_qk_views_are_live():
    module = attention()
    x = torch.randn(1, 6, 24, dtype=torch.double)
    module(x, turns(1, 6))
    before = module.max_logits_H.clone()
    views = module.qk_views()
    assert {name: tuple(v.shape) for name, v in views.items()} == {
        "q_nope": (3, 6, 10), "q_rope": (3, 4, 10), "k_nope": (3, 6, 8)
    }  # fmt: skip
    views["q_nope"][1] *= 3  # the logits of head 1, and of no other: q has a part without position and one with
    views["q_rope"][1] *= 3
    module.max_logits_H.fill_(-math.inf)
    module(x, turns(1, 6))
    torch.testing.assert_close(module.max_logits_H, before * torch.tensor([1.0, 3.0, 1.0]))
