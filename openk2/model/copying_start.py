"""Initial weights that can already copy: an induction circuit in the first two layers.

An agent mostly repeats what it has read: an id into a call, a result into an answer. The circuit that does so
(arXiv 2209.11895) costs a model of a few million parameters more tokens than minutes on a CPU can train. It is
a matter of weights, not of architecture, so a tiny model may begin with it; training then changes it at will.

    layer 0   two heads find the tokens one and two back by position and write what they were into the residual stream
    layer 1   half of the heads look for where the token at hand came one back, and read the token there ("a b … a" → b);
              half for where the token one back came two back ("status":"paid" … status is → paid)
    head      starts as the (scaled) embedding: what was read is what is predicted

The residual stream begins in three parts that do not disturb each other: the token, the one before, the one before that.

Shapes: D model, H heads, V value width (also of keys without position, and of what is remembered of a token back),
R rotary width, C key-value latent, U rows of the token's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from openk2.model.attention import LatentAttention
from openk2.model.config import COPYING_PAIRS

if TYPE_CHECKING:
    from openk2.model.transformer import Transformer

# Chosen once by the loss on repeated random tokens and on such with one token between, before any training.
EMBEDDING_OFFSET = 0.2  # a direction common to all embeddings, from which position alone can be read
HEAD_SCALE = 1.0  # head over embedding
POSITION_LOGIT = 36.0  # logit of the wanted token in layer 0
BACK_GAIN = 0.1  # how loudly layer 0 writes
MATCH_GAIN = 2.8  # sharpness of the match in layer 1
READ_GAIN = 1.3  # how loudly layer 1 writes
QUIET = 0.1  # what the drawn weights of the used heads are reduced to


@torch.no_grad()
def write_copying_start(model: Transformer, generator: torch.Generator) -> None:
    """Overwrite parts of a freshly drawn whole model with the circuit."""
    assert model.embed_tokens is not None, "the circuit spans a whole model"
    assert model.lm_head is not None, "the circuit spans a whole model"
    c, width = model.config, model.config.hidden_size
    basis_DD = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q.T.contiguous()
    used, back = c.num_heads // 2 * c.v_head_dim, c.v_head_dim
    token_UD, one_back_VD, two_back_VD = basis_DD[: used + 2 * back].split((used, back, back))
    common_D = token_UD[0].clone()
    token_UD[0] = 0.0  # so that nothing but position is read from the common direction
    embedding_WD = model.embed_tokens.weight
    tokens_WD = embedding_WD @ token_UD.T @ token_UD * (width / used) ** 0.5
    model.lm_head.weight.copy_(HEAD_SCALE * tokens_WD)
    embedding_WD.copy_(tokens_WD + EMBEDDING_OFFSET * width**0.5 * common_D)
    # What the norm leaves of the common direction, the same for every token.
    presence = float(EMBEDDING_OFFSET * width**0.5 / embedding_WD.square().mean().sqrt())
    _look_back(model, common_D / presence, token_UD, into=(one_back_VD, two_back_VD))
    matches = ((token_UD[:back], one_back_VD), (one_back_VD, two_back_VD))
    _match_and_read(model, matches, token_UD)


def _attention(model: Transformer, layer: int) -> LatentAttention:
    return next(module for module in model.attentions() if module.layer == layer)


def _look_back(model: Transformer, common_D: Tensor, token_UD: Tensor, into: Sequence[Tensor]) -> None:
    """Layer 0: head n attends n + 1 positions back and writes what that token was along ``into[n]``."""
    c, attention = model.config, _attention(model, 0)
    q_HKD = attention.q_proj.weight.view(c.num_heads, c.qk_head_dim, -1)
    kv_HXC = attention.kv_b_proj.weight.view(c.num_heads, -1, c.kv_lora_rank)
    o_DHV = attention.o_proj.weight.view(c.hidden_size, c.num_heads, -1)
    k_rope_RD = attention.kv_a_proj_with_mqa.weight[c.kv_lora_rank :]
    gain = (POSITION_LOGIT / (COPYING_PAIRS * attention.softmax_scale)) ** 0.5
    k_rope_RD *= QUIET
    k_rope_RD[0 : 2 * COPYING_PAIRS : 2] += gain * common_D
    attention.kv_a_proj_with_mqa.weight[: len(token_UD)] = token_UD
    for head, back_VD in enumerate(into):
        turn_P = (head + 1) * model.inv_freq_P[:COPYING_PAIRS]
        q_HKD[head] *= QUIET
        rotary_RD = q_HKD[head, c.qk_nope_head_dim :]
        rotary_RD[0 : 2 * COPYING_PAIRS : 2] += gain * torch.outer(turn_P.cos(), common_D)
        rotary_RD[1 : 2 * COPYING_PAIRS : 2] -= gain * torch.outer(turn_P.sin(), common_D)
        kv_HXC[head] *= QUIET
        kv_HXC[head, c.qk_nope_head_dim :, : c.v_head_dim] += torch.eye(c.v_head_dim)
        o_DHV[:, head] = BACK_GAIN * back_VD.T


def _match_and_read(model: Transformer, matches: Sequence[tuple[Tensor, Tensor]], token_UD: Tensor) -> None:
    """Layer 1: look with what stands along ``matches[n][0]`` here for the same along ``matches[n][1]``; read the token there.

    Each match has half of the heads; each of those reads its own rows of the token.
    """
    c, attention = model.config, _attention(model, 1)
    q_HKD = attention.q_proj.weight.view(c.num_heads, c.qk_head_dim, -1)
    kv_HXC = attention.kv_b_proj.weight.view(c.num_heads, -1, c.kv_lora_rank)
    o_DHV = attention.o_proj.weight.view(c.hidden_size, c.num_heads, -1)
    latent_CD = torch.cat((token_UD, *(key_VD for _, key_VD in matches)))
    attention.kv_a_proj_with_mqa.weight.mul_(QUIET)[: len(latent_CD)] = latent_CD
    q_HKD *= QUIET
    kv_HXC *= QUIET
    for head in range(c.num_heads):
        which, part = divmod(head, c.num_heads // 2)
        wanted_VD, _ = matches[which]
        rows = slice(part * c.v_head_dim, (part + 1) * c.v_head_dim)
        keys = slice(len(token_UD) + which * c.v_head_dim, len(token_UD) + (which + 1) * c.v_head_dim)
        q_HKD[head, : c.qk_nope_head_dim] += MATCH_GAIN * wanted_VD
        kv_HXC[head, : c.qk_nope_head_dim, keys] += MATCH_GAIN * torch.eye(c.v_head_dim)
        kv_HXC[head, c.qk_nope_head_dim :, rows] += torch.eye(c.v_head_dim)
        o_DHV[:, head] = READ_GAIN * token_UD[rows].T
