"""Small attention modules that make real logits: what QK-Clip is tested on."""

import torch
from torch import Tensor, nn


def rotate(x_BHTR: Tensor) -> Tensor:
    """RoPE over the last dimension."""
    num_tokens, width = x_BHTR.shape[-2:]
    frequency = 100.0 ** (-torch.arange(0, width, 2, dtype=x_BHTR.dtype) / width)
    angle = torch.arange(num_tokens, dtype=x_BHTR.dtype)[:, None] * frequency
    even, odd = x_BHTR[..., 0::2], x_BHTR[..., 1::2]
    pair = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(pair, dim=-1).flatten(-2)


class Attention(nn.Module):
    """``logits(x)`` and their running maximum for each head over causal pairs."""

    def __init__(self, num_heads: int):
        super().__init__()
        self.register_buffer("max_logits_H", torch.full((num_heads,), -torch.inf), persistent=False)

    def record(self, q_BHTK: Tensor, k_BHTK: Tensor) -> Tensor:
        logits_BHTT = q_BHTK @ k_BHTK.mT * q_BHTK.shape[-1] ** -0.5
        seen = torch.ones(logits_BHTT.shape[-2:], dtype=torch.bool).tril()
        top_H = logits_BHTT.detach().masked_fill(~seen, -torch.inf).amax((0, 2, 3))
        self.max_logits_H.copy_(torch.maximum(self.max_logits_H, top_H))
        return logits_BHTT.masked_fill(~seen, 0.0)


class MHA(Attention):
    """Grouped when there are fewer key heads; with biases and RoPE."""

    def __init__(self, width: int, num_heads: int, num_key_heads: int, head_dim: int):
        super().__init__(num_heads)
        self.head_dim = head_dim
        self.q = nn.Linear(width, num_heads * head_dim)
        self.k = nn.Linear(width, num_key_heads * head_dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k = (rotate(f(x_BTD).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)) for f in (self.q, self.k))
        return self.record(q, k.repeat_interleave(q.shape[1] // k.shape[1], dim=1))

    def qk_views(self) -> dict[str, Tensor]:
        views = {"q": self.q.weight, "k": self.k.weight, "q_bias": self.q.bias, "k_bias": self.k.bias}
        return {name: weight.data.unflatten(0, (-1, self.head_dim)) for name, weight in views.items()}


class MLA(Attention):
    """Queries from the input; keys from a latent; one rotary key shared by all heads."""

    def __init__(self, width: int, num_heads: int, nope: int, rope: int, latent: int):
        super().__init__(num_heads)
        self.nope, self.rope = nope, rope
        self.q = nn.Linear(width, num_heads * (nope + rope), bias=False)
        self.kv_a = nn.Linear(width, latent + rope, bias=False)
        self.kv_b = nn.Linear(latent, num_heads * nope * 2, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q_nope, q_rope = (
            self.q(x_BTD)
            .unflatten(-1, (-1, self.nope + self.rope))
            .transpose(1, 2)
            .split([self.nope, self.rope], dim=-1)
        )
        latent, k_rope = self.kv_a(x_BTD).split([self.kv_b.in_features, self.rope], dim=-1)
        k_nope = self.kv_b(latent).unflatten(-1, (-1, 2 * self.nope)).transpose(1, 2)[..., : self.nope]
        k_rope = rotate(k_rope[:, None]).expand(-1, q_rope.shape[1], -1, -1)
        return self.record(torch.cat([q_nope, rotate(q_rope)], -1), torch.cat([k_nope, k_rope], -1))

    def qk_views(self) -> dict[str, Tensor]:
        q_HKD = self.q.weight.data.unflatten(0, (-1, self.nope + self.rope))
        kv_HXC = self.kv_b.weight.data.unflatten(0, (-1, 2 * self.nope))
        return {"q_nope": q_HKD[:, : self.nope], "q_rope": q_HKD[:, self.nope :], "k_nope": kv_HXC[:, : self.nope]}


def make(kind: str) -> Attention:
    """One of mla, mha, gqa, mqa: width 16, 4 heads."""
    return {
        "mla": lambda: MLA(16, 4, nope=6, rope=4, latent=8),
        "mha": lambda: MHA(16, 4, 4, head_dim=6),
        "gqa": lambda: MHA(16, 4, 2, head_dim=6),
        "mqa": lambda: MHA(16, 4, 1, head_dim=6),
    }[kind]()
