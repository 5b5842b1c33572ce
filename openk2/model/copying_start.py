"""Initial weights that can already copy: an induction circuit in the first two layers.

An agent mostly repeats what it has read: an id into a call, a result into an answer. The circuit that does so
(arXiv 2209.11895) costs a model of a few million parameters more tokens than minutes on a CPU can train. It is
a matter of weights, not of architecture, so a tiny model may begin with it; training then changes it at will.

    layer 0   heads find the previous token by position and write what it was into the residual stream
    layer 1   heads look for a token whose predecessor was the token at hand, and read that token
    head      starts as the (scaled) embedding: what was read is what is predicted

Shapes: D model, H heads, N width without position, R rotary width, V value width, C key-value latent, U used rows = C/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from openk2.model.attention import LatentAttention
from openk2.model.config import ModelConfig

if TYPE_CHECKING:
    from openk2.model.transformer import Transformer

# Chosen once by the loss on repeated random tokens before any training.
EMBEDDING_OFFSET = 0.2  # a direction common to all embeddings, from which position alone can be read
HEAD_SCALE = 1.0  # head over embedding
POSITION_PAIRS = 3  # fastest rotary pairs: enough to tell the previous token from all others
POSITION_LOGIT = 24.0  # logit of the previous token in layer 0
PREVIOUS_GAIN = 0.1  # how loudly layer 0 writes
MATCH_GAIN = 2.8  # sharpness of the match in layer 1
READ_GAIN = 1.3  # how loudly layer 1 writes
QUIET = 0.1  # what the drawn weights of the used heads are reduced to


def check(config: ModelConfig) -> None:
    """Raise ValueError where the circuit does not fit the shape."""
    if config.num_layers < 2 or config.q_lora_rank is not None or config.qk_nope_head_dim != config.v_head_dim:
        raise ValueError('start = "copying" wants two layers, no q_lora_rank, and qk_nope_head_dim equal to v_head_dim')
    if config.kv_lora_rank % (2 * config.v_head_dim) or config.kv_lora_rank // 2 >= config.hidden_size:
        raise ValueError(
            f'start = "copying" wants kv_lora_rank to be a multiple of twice v_head_dim ({2 * config.v_head_dim}) '
            f"and less than twice hidden_size, got {config.kv_lora_rank}"
        )
    if config.qk_rope_head_dim < 2 * POSITION_PAIRS or config.kv_lora_rank // 2 > config.num_heads * config.v_head_dim:
        raise ValueError(f'start = "copying" wants qk_rope_head_dim ≥ {2 * POSITION_PAIRS} and more heads')


@torch.no_grad()
def write_copying_start(model: Transformer, generator: torch.Generator) -> None:
    """Overwrite parts of a freshly drawn whole model with the circuit."""
    assert model.embed_tokens is not None, "the circuit spans a whole model"
    assert model.lm_head is not None, "the circuit spans a whole model"
    embedding_WD = model.embed_tokens.weight
    width = embedding_WD.shape[1]
    common_D = torch.randn(width, generator=generator)
    common_D *= EMBEDDING_OFFSET * width**0.5 / common_D.norm()
    model.lm_head.weight.copy_(HEAD_SCALE * embedding_WD)
    embedding_WD += common_D
    used = model.config.kv_lora_rank // 2
    direction_D = common_D / common_D.norm()
    token_UD = _orthonormal_rows(used, direction_D, generator)
    previous_UD = _orthonormal_rows(used, direction_D, generator)
    # What the norm leaves of the common direction, the same for every token.
    presence = float(common_D.norm() / embedding_WD.square().mean().sqrt())
    _find_previous(model, direction_D / presence, token_UD, previous_UD)
    _match_and_read(model, token_UD, previous_UD)


def _attention(model: Transformer, layer: int) -> LatentAttention:
    return next(module for module in model.attentions() if module.layer == layer)


def _orthonormal_rows(count: int, away_from_D: Tensor, generator: torch.Generator) -> Tensor:
    drawn_DD = torch.randn(len(away_from_D), len(away_from_D), generator=generator)
    drawn_DD -= torch.outer(away_from_D, away_from_D @ drawn_DD)
    return torch.linalg.qr(drawn_DD).Q[:, :count].T.contiguous()


def _find_previous(model: Transformer, common_D: Tensor, token_UD: Tensor, previous_UD: Tensor) -> None:
    """Layer 0: attend one position back, write that token's ``token_UD`` reading along ``previous_UD``."""
    c, attention = model.config, _attention(model, 0)
    used, heads = len(token_UD), len(token_UD) // c.v_head_dim
    q_HKD = attention.q_proj.weight.view(c.num_heads, c.qk_head_dim, -1)
    kv_HXC = attention.kv_b_proj.weight.view(c.num_heads, -1, c.kv_lora_rank)
    o_DHV = attention.o_proj.weight.view(c.hidden_size, c.num_heads, -1)
    k_rope_RD = attention.kv_a_proj_with_mqa.weight[c.kv_lora_rank :]
    gain = (POSITION_LOGIT / (POSITION_PAIRS * attention.softmax_scale)) ** 0.5
    one_back_P = model.inv_freq_P[:POSITION_PAIRS]
    k_rope_RD *= QUIET
    k_rope_RD[0 : 2 * POSITION_PAIRS : 2] += gain * common_D
    attention.kv_a_proj_with_mqa.weight[:used] = token_UD
    for head in range(heads):
        q_HKD[head] *= QUIET
        rotary_RD = q_HKD[head, c.qk_nope_head_dim :]
        rotary_RD[0 : 2 * POSITION_PAIRS : 2] += gain * torch.outer(one_back_P.cos(), common_D)
        rotary_RD[1 : 2 * POSITION_PAIRS : 2] -= gain * torch.outer(one_back_P.sin(), common_D)
        rows = slice(head * c.v_head_dim, (head + 1) * c.v_head_dim)
        kv_HXC[head] *= QUIET
        kv_HXC[head, c.qk_nope_head_dim :, rows] += torch.eye(c.v_head_dim)
        o_DHV[:, head] = PREVIOUS_GAIN * previous_UD[rows].T


def _match_and_read(model: Transformer, token_UD: Tensor, previous_UD: Tensor) -> None:
    """Layer 1: query with the token at hand, key with the predecessor layer 0 wrote, value the token itself."""
    c, attention = model.config, _attention(model, 1)
    used, heads = len(token_UD), len(token_UD) // c.v_head_dim
    q_HKD = attention.q_proj.weight.view(c.num_heads, c.qk_head_dim, -1)
    kv_HXC = attention.kv_b_proj.weight.view(c.num_heads, -1, c.kv_lora_rank)
    o_DHV = attention.o_proj.weight.view(c.hidden_size, c.num_heads, -1)
    latent_LD = attention.kv_a_proj_with_mqa.weight
    latent_LD[:used], latent_LD[used : 2 * used] = previous_UD, token_UD
    latent_LD[2 * used :] *= QUIET
    for head in range(heads):
        rows = slice(head * c.v_head_dim, (head + 1) * c.v_head_dim)
        values = slice(used + rows.start, used + rows.stop)
        q_HKD[head] *= QUIET
        q_HKD[head, : c.qk_nope_head_dim] += MATCH_GAIN * token_UD[rows]
        kv_HXC[head] *= QUIET
        kv_HXC[head, : c.qk_nope_head_dim, rows] += MATCH_GAIN * torch.eye(c.qk_nope_head_dim)
        kv_HXC[head, c.qk_nope_head_dim :, values] += torch.eye(c.v_head_dim)
        o_DHV[:, head] = READ_GAIN * token_UD[rows].T
