"""The CUDA paths against their plain twins."""

import pytest
import torch

from openk2.model.attention_kernels import attend, attend_plain, same_document_mask, visibility
from openk2.model.config import ModelConfig
from openk2.model.experts import run_experts, run_experts_plain
from openk2.model.transformer import Transformer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def gradients(out, inputs):
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(out)
    return torch.autograd.grad(out, inputs, weight)


def assert_near(got, want, tolerance):
    """Relative error of the whole tensor: bfloat16 products have no small error entry by entry."""
    error = (got.float() - want.float()).norm() / want.float().norm()
    assert error < tolerance, f"relative error {error:.2e}"


# Nano, a width over 64, and the published one; lengths that fill no block too.
@pytest.mark.parametrize(("qk", "v", "tokens"), [(48, 32, 256), (96, 64, 200), (192, 128, 384)])
@pytest.mark.parametrize("documents", [False, True])
def test_flex_attention_equals_plain(qk, v, tokens, documents):
    g = torch.Generator().manual_seed(0)
    qkv = [torch.randn(2, tokens, 4, w, generator=g).cuda().bfloat16() for w in (qk, qk, v)]
    cuts = torch.rand(2, tokens, generator=g) < 0.02
    doc_ids = (cuts if documents else torch.zeros_like(cuts)).cumsum(1).cuda()
    visible = visibility(doc_ids if documents else None, qkv[0][..., 0, :])
    fast = [x.clone().requires_grad_() for x in qkv]
    plain = [x.float().requires_grad_() for x in qkv]
    out, max_logits = attend(*fast, visible, qk**-0.5)
    expected, expected_max = attend_plain(*plain, same_document_mask(doc_ids), qk**-0.5)
    torch.testing.assert_close(max_logits.float(), expected_max, rtol=1e-2, atol=1e-2)
    assert_near(out, expected, 1e-2)
    for got, want in zip(gradients(out, fast), gradients(expected, plain), strict=True):
        assert_near(got, want, 2e-2)


def test_grouped_experts_equal_plain_and_repeat_bit_for_bit():
    g = torch.Generator().manual_seed(0)
    chosen = torch.rand(500, 8, generator=g)[:, :6].topk(2).indices.cuda()  # experts 6 and 7 see no token
    shapes = ((500, 64), (500, 2), (8, 64, 64), (8, 64, 32))
    x, gates, gate_up, down = ((torch.randn(s, generator=g) * 0.5).cuda().requires_grad_() for s in shapes)
    inputs = (x, gates, gate_up, down)
    out = run_experts(x, chosen, gates, gate_up, down)
    expected = run_experts_plain(x, chosen, gates, gate_up, down)
    assert_near(out, expected, 2e-2)
    fast = gradients(out, inputs)
    for got, want in zip(fast, gradients(expected, inputs), strict=True):
        assert_near(got, want, 3e-2)
    again = gradients(run_experts(x, chosen, gates, gate_up, down), inputs)
    assert all(torch.equal(a, b) for a, b in zip(fast, again, strict=True))


@pytest.mark.parametrize("autocast", [False, True])
def test_a_model_on_cuda_equals_the_cpu_model(autocast):
    config = ModelConfig(
        vocab_size=256, hidden_size=64, num_layers=3, intermediate_size=128, moe_intermediate_size=32, num_heads=4,
        kv_lora_rank=32, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32, num_experts=8,
        num_experts_per_token=8,  # all of them: no near tie can route differently
    )  # fmt: skip
    tokens = torch.randint(256, (2, 130), generator=torch.Generator().manual_seed(0))
    positions, doc_ids = torch.arange(130).expand(2, -1), (torch.arange(130) // 50).expand(2, -1).contiguous()
    model = Transformer(config).initialize(0)
    results = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        for attention in model.attentions():
            attention.max_logits_H.fill_(-torch.inf)
        with torch.autocast(device, torch.bfloat16, enabled=autocast and device == "cuda"):
            logits = model(tokens.to(device), positions=positions.to(device), doc_ids=doc_ids.to(device))
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten().to(device))
        loss.backward()
        maxima = torch.cat([attention.max_logits_H.cpu() for attention in model.attentions()])
        results.append((logits.detach().cpu(), maxima, [p.grad.cpu() for p in model.parameters()]))
    (cpu_logits, cpu_maxima, cpu_grads), (logits, maxima, grads) = results
    assert_near(logits, cpu_logits, 3e-2)
    assert_near(maxima, cpu_maxima, 3e-2)
    for got, want in zip(grads, cpu_grads, strict=True):
        assert_near(got, want, 6e-2)
