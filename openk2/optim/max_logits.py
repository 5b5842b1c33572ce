"""The largest attention logit of each head, from queries and keys: for attention whose kernel does not tell.

Shapes: B rows, T queries, S keys, H query heads, G key heads, Q = H/G query heads to a key head, K head width,
t queries of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Queries at once: the scores of a chunk are [B, H, CHUNK, S].
CHUNK = 128


@torch.no_grad()
def max_logits(q_BTHK: Tensor, k_BSGK: Tensor, scale: float, mask_BHTS: Tensor | None, causal: bool) -> Tensor:
    """The maximum of q·k·scale over the pairs that are visible, ``[H]`` in float32; −inf where none is.

    ``mask_BHTS`` is boolean, True where a query sees a key; B, H and T may be 1. ``causal``: query t sees keys up to
    t. Both may be given. Scores have the dtype of q and k, also under autocast. A NaN of a visible pair makes its
    head NaN. Waits for no device. Raises ValueError for query heads that do not divide among the key heads.
    """
    num_queries, num_heads = q_BTHK.shape[1:3]
    num_keys, num_key_heads = k_BSGK.shape[1:3]
    if num_heads % num_key_heads:
        raise ValueError(f"{num_heads} query heads cannot share {num_key_heads} key heads: give a multiple")
    q_BGQTK = q_BTHK.transpose(1, 2).unflatten(1, (num_key_heads, -1))
    k_BGKS = k_BSGK.permute(0, 2, 3, 1)
    top_GQ = q_BTHK.new_full((num_key_heads, num_heads // num_key_heads), -torch.inf)
    with torch.autocast(q_BTHK.device.type, enabled=False):
        for start in range(0, num_queries, CHUNK):
            stop = min(start + CHUNK, num_queries)
            seen = min(stop, num_keys) if causal else num_keys
            q_BGNK = q_BGQTK[:, :, :, start:stop].flatten(2, 3)
            scores_BGQts = (q_BGNK @ k_BGKS[..., :seen]).unflatten(2, (-1, stop - start))
            if mask_BHTS is not None:
                rows = slice(start, stop) if mask_BHTS.shape[2] > 1 else slice(None)
                scores_BGQts.masked_fill_(~_grouped(mask_BHTS[:, :, rows, :seen], num_key_heads), -torch.inf)
            if causal:
                later_ts = torch.ones(stop - start, seen, dtype=torch.bool, device=q_BTHK.device).triu(start + 1)
                scores_BGQts.masked_fill_(later_ts, -torch.inf)
            top_GQ = top_GQ.maximum(scores_BGQts.amax(dim=(0, 3, 4)))
    # −inf stays what it is, and float16 gets its range before it is scaled.
    return top_GQ.flatten().float() * scale


def _grouped(mask_BHTS: Tensor, num_key_heads: int) -> Tensor:
    """The mask as [B, G, Q, T, S], where G and Q may be 1."""
    return mask_BHTS[:, None] if mask_BHTS.shape[1] == 1 else mask_BHTS.unflatten(1, (num_key_heads, -1))
