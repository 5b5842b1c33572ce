import math

import pytest
import torch

from openk2.model import rope
from openk2.model.config import ModelConfig, YarnConfig


def config(**changes):
    return ModelConfig(
        **{
            "vocab_size": 50, "hidden_size": 16, "num_layers": 1, "intermediate_size": 16, "moe_intermediate_size": 8,
            "num_heads": 2, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 8, "v_head_dim": 4,
            "max_positions": 65536, **changes,
        }
    )  # fmt: skip


def turns(c, positions):
    return rope.turns(c, positions, rope.frequencies(c).double())


@pytest.mark.parametrize("width", [8, 12, 13])
def test_rotate_equals_its_plain_twin(width):
    c = config()
    t = turns(c, torch.randint(1000, (2, 5)))
    x = torch.randn(2, 5, 3, width, dtype=torch.double, requires_grad=True)
    weight = torch.randn(2, 5, 3, width, dtype=torch.double)
    fast, plain = rope.rotate(x, t), rope.rotate_plain(x, t)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(torch.autograd.grad(fast, x, weight), torch.autograd.grad(plain, x, weight))


def test_products_depend_on_the_distance_alone():
    c = config()
    q, k = torch.randn(2, 8, dtype=torch.double)

    def product(at_q, at_k):
        turned = rope.rotate(torch.stack((q, k)).view(1, 2, 1, 8), turns(c, torch.tensor([[at_q, at_k]])))
        return turned[0, 0, 0] @ turned[0, 1, 0]

    torch.testing.assert_close(product(7, 3), product(1007, 1003))
    assert abs(product(7, 3) - product(7, 4)) > 1e-6


def test_entries_before_the_rotary_ones_stay_and_lengths_too():
    c = config()
    x = torch.randn(1, 4, 2, 12, dtype=torch.double)
    out = rope.rotate(x, turns(c, torch.arange(4).unsqueeze(0)))
    assert torch.equal(out[..., :4], x[..., :4])
    torch.testing.assert_close(out.norm(dim=-1), x.norm(dim=-1))


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones():
    plain = rope.frequencies(config())
    stretched = rope.frequencies(config(yarn=YarnConfig(factor=4.0, original_max_positions=4096)))
    assert stretched[0] == plain[0]
    torch.testing.assert_close(stretched[-1], plain[-1] / 4)


def test_yarn_scales_the_softmax_but_not_the_rotation_when_both_mscales_agree():
    c = config(yarn=YarnConfig(factor=32.0, original_max_positions=2048))
    assert rope.rotation_scale(c) == 1.0
    expected = (0.1 * math.log(32) + 1) ** 2 / math.sqrt(12)
    assert rope.softmax_scale(c) == pytest.approx(expected)
