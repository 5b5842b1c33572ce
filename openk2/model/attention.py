"""Multi-head latent attention with decoupled RoPE, and its max logits for QK-Clip (K2 §2.1, §2.3).

Shapes: B batch, T tokens, S visible tokens, D model, H heads, Q query latent, C key-value latent,
N width without position, R rotary width, K = N + R, V value width, L = C + R, P = R/2, M = B·T, X = T·H queries.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from openk2.model import rope
from openk2.model.attention_kernels import Blocks, attend, attend_biased, visibility
from openk2.model.config import ModelConfig
from openk2.model.layout import Layout, publish
from openk2.model.norm import RMSNorm


class LatentCache(Protocol):
    """Where inference keeps the latents of past tokens."""

    @property
    def fresh(self) -> bool:
        """Nothing is cached yet: the new tokens see one another alone."""
        ...

    def write(self, layer: int, latent_BTL: Tensor) -> None:
        """Store the latents of the new tokens: C normed key-value, R rotated key."""
        ...

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Latents of all tokens, [B, S, L], and the bias on their scores, [B, T, S]: 0 where token t sees s, else −inf."""
        ...


def linear(width_in: int, width_out: int, layout: Layout | None = None) -> nn.Linear:
    """A bias-free projection whose weight publishes its layout."""
    module = nn.Linear(width_in, width_out, bias=False)
    publish(module.weight, layout or Layout("matrix"))
    return module


class LatentAttention(nn.Module):
    """MLA: keys and values come from one small latent per token, plus one rotary key shared by heads."""

    max_logits_H: Tensor

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        c = self.config = config
        self.layer = layer
        self.softmax_scale = rope.softmax_scale(c)
        queries = Layout("matrix", heads=c.num_heads, pieces=(("q", c.qk_head_dim),))
        if c.q_lora_rank is None:
            self.q_proj = linear(c.hidden_size, c.num_heads * c.qk_head_dim, queries)
        else:
            self.q_a_proj = linear(c.hidden_size, c.q_lora_rank)
            self.q_a_layernorm = RMSNorm(c.q_lora_rank)
            self.q_b_proj = linear(c.q_lora_rank, c.num_heads * c.qk_head_dim, queries)
        self.kv_a_proj_with_mqa = linear(
            c.hidden_size,
            c.kv_lora_rank + c.qk_rope_head_dim,
            Layout("matrix", pieces=(("latent", c.kv_lora_rank), ("k_rope", c.qk_rope_head_dim))),
        )
        self.kv_a_layernorm = RMSNorm(c.kv_lora_rank)
        self.kv_b_proj = linear(
            c.kv_lora_rank,
            c.num_heads * (c.qk_nope_head_dim + c.v_head_dim),
            Layout("matrix", heads=c.num_heads, pieces=(("k", c.qk_nope_head_dim), ("v", c.v_head_dim))),
        )
        self.o_proj = linear(c.num_heads * c.v_head_dim, c.hidden_size)
        self.register_buffer("max_logits_H", torch.full((c.num_heads,), -math.inf), persistent=False)

    def qk_views(self) -> dict[str, Tensor]:
        """Live views on the weights that make the logits, heads first: what QK-Clip scales."""
        c = self.config
        query = self.q_proj if c.q_lora_rank is None else self.q_b_proj
        q_HKQ = query.weight.data.view(c.num_heads, c.qk_head_dim, -1)
        kv_HXC = self.kv_b_proj.weight.data.view(c.num_heads, c.qk_nope_head_dim + c.v_head_dim, -1)
        return {
            "q_nope": q_HKQ[:, : c.qk_nope_head_dim],
            "q_rope": q_HKQ[:, c.qk_nope_head_dim :],
            "k_nope": kv_HXC[:, : c.qk_nope_head_dim],
        }

    def forward(
        self,
        x_BTD: Tensor,
        turns_BTP: Tensor,
        visible: Blocks | BlockMask | None = None,
        cache: LatentCache | None = None,
    ) -> Tensor:
        """Attend to what is ``visible`` in this batch (None: causal); with a ``cache``, to what that holds."""
        c = self.config
        q_BTHK = rope.rotate(self._queries(x_BTD), turns_BTP)
        latent_BTC, k_rope_BTR = self.kv_a_proj_with_mqa(x_BTD).split((c.kv_lora_rank, c.qk_rope_head_dim), dim=-1)
        latent_BTC = self.kv_a_layernorm(latent_BTC)
        k_rope_BT1R = rope.rotate(k_rope_BTR.unsqueeze(-2), turns_BTP)
        if cache is not None:
            cache.write(self.layer, torch.cat((latent_BTC, k_rope_BT1R.squeeze(-2)), dim=-1))
        if cache is None or cache.fresh:
            out_BTHV = self._expanded(q_BTHK, latent_BTC, k_rope_BT1R, visible or visibility(None, x_BTD))
        else:
            latent_BSL, bias_BTS = cache.read(self.layer)
            attend_cached = self._absorbed if self._absorbing_is_cheaper(*bias_BTS.shape[1:]) else self._expanded_cached
            out_BTHV = attend_cached(q_BTHK, latent_BSL, bias_BTS)
        return self.o_proj(out_BTHV.flatten(-2))

    def _queries(self, x_BTD: Tensor) -> Tensor:
        c = self.config
        q = self.q_proj(x_BTD) if c.q_lora_rank is None else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_BTD)))
        return q.unflatten(-1, (c.num_heads, c.qk_head_dim))

    def _expanded(self, q_BTHK: Tensor, latent_BTC: Tensor, k_rope_BT1R: Tensor, visible: Blocks | BlockMask) -> Tensor:
        """Training and plain prefill: expand the latent to each head's keys and values."""
        c = self.config
        kv_BTHX = self.kv_b_proj(latent_BTC).unflatten(-1, (c.num_heads, -1))
        k_nope_BTHN, v_BTHV = kv_BTHX.split((c.qk_nope_head_dim, c.v_head_dim), dim=-1)
        k_BTHK = torch.cat((k_nope_BTHN, k_rope_BT1R.expand(-1, -1, c.num_heads, -1)), dim=-1)
        out_BTHV, max_logits_H = attend(q_BTHK, k_BTHK, v_BTHV, visible, self.softmax_scale)
        if self.training:
            # A maximum taken twice is the same maximum, so recomputed activations change nothing.
            torch.maximum(self.max_logits_H, max_logits_H.to(self.max_logits_H.dtype), out=self.max_logits_H)
        return out_BTHV

    def _absorbing_is_cheaper(self, num_new: int, num_cached: int) -> bool:
        """Which way takes fewer products for T new tokens that see S: wider heads, or every latent expanded first."""
        c = self.config
        narrow, wide = c.qk_head_dim + c.v_head_dim, 2 * (c.kv_lora_rank + c.qk_rope_head_dim)
        expansion = c.kv_lora_rank * (c.qk_nope_head_dim + c.v_head_dim)
        return num_new * (num_cached * wide + expansion) <= num_cached * (num_new * narrow + expansion)

    def _expanded_cached(self, q_BTHK: Tensor, latent_BSL: Tensor, bias_BTS: Tensor) -> Tensor:
        """Prefill behind cached tokens: expand their latents too."""
        c = self.config
        latent_BSC, k_rope_BSR = latent_BSL.split((c.kv_lora_rank, c.qk_rope_head_dim), dim=-1)
        kv_BSHX = self.kv_b_proj(latent_BSC).unflatten(-1, (c.num_heads, -1))
        k_nope_BSHN, v_BSHV = kv_BSHX.split((c.qk_nope_head_dim, c.v_head_dim), dim=-1)
        k_BSHK = torch.cat((k_nope_BSHN, k_rope_BSR.unsqueeze(2).expand(-1, -1, c.num_heads, -1)), dim=-1)
        return attend_biased(q_BTHK, k_BSHK, v_BSHV, bias_BTS, self.softmax_scale)

    def _absorbed(self, q_BTHK: Tensor, latent_BSL: Tensor, bias_BTS: Tensor) -> Tensor:
        """Decoding: fold the key and value expansions into the query and the output (K2 §3.3)."""
        c = self.config
        batch, length = q_BTHK.shape[:2]
        w_HXC = self.kv_b_proj.weight.view(c.num_heads, -1, c.kv_lora_rank)
        q_HMK = q_BTHK.flatten(0, 1).transpose(0, 1)
        q_HMC = q_HMK[..., : c.qk_nope_head_dim].bmm(w_HXC[:, : c.qk_nope_head_dim])
        q_HML = torch.cat((q_HMC, q_HMK[..., c.qk_nope_head_dim :]), dim=-1)
        q_BTHL = q_HML.transpose(0, 1).unflatten(0, (batch, length))
        # The latent is key and value at once, one for all heads: the heads of a token are the queries of one attention.
        bias_BXS = bias_BTS.repeat_interleave(c.num_heads, dim=1) if length > 1 else bias_BTS
        out_B1XL = F.scaled_dot_product_attention(
            q_BTHL.flatten(1, 2).unsqueeze(1),
            latent_BSL.unsqueeze(1),
            latent_BSL.unsqueeze(1),
            attn_mask=bias_BXS.unsqueeze(1),
            scale=self.softmax_scale,
        )
        out_HMC = out_B1XL.view(batch * length, c.num_heads, -1)[..., : c.kv_lora_rank].transpose(0, 1)
        out_HMV = out_HMC.bmm(w_HXC[:, c.qk_nope_head_dim :].mT)
        return out_HMV.transpose(0, 1).unflatten(0, (batch, length))
