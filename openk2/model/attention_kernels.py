"""softmax(q·k)·v inside documents, with the largest logit of every head, for CPU and CUDA.

Shapes: B batch, T tokens, H heads, K query and key width, V value width; t query rows, s visible keys of a block.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

# Query rows of a block on CPU: its scores stay in the cache. A block ends at a document's end only
# once it has the smaller number of rows: many tiny products cost more than a little masked work.
_MOST_ROWS = 128
_FEWEST_ROWS = 32


@dataclass(frozen=True, slots=True)
class Blocks:
    """Which part of the score matrix holds visible pairs (CPU)."""

    bias_BTT: Tensor
    """0 where a token may look, −inf elsewhere; one row for all where B is 1."""
    spans: list[tuple[int, int, int, int]]
    """(batch row, first query, end of queries, first visible key): keys end where the queries do."""


def visibility(doc_ids_BT: Tensor | None, tokens_BT: Tensor) -> Blocks | BlockMask:
    """Who sees whom, for every layer of one forward pass: causal, and inside a document.

    ``tokens_BT`` gives the shape, device and (if floating) type: its first two dimensions are [B, T].
    """
    if tokens_BT.is_cuda:
        return _flex_mask(doc_ids_BT, tokens_BT)
    batch, length = tokens_BT.shape[:2]
    dtype = tokens_BT.dtype if tokens_BT.is_floating_point() else torch.float32
    if doc_ids_BT is None:
        bias = tokens_BT.new_full((1, length, length), -math.inf, dtype=dtype).triu_(1)
        return Blocks(bias, [span for row in range(batch) for span in _spans(row, [0] * length)])
    mask_BTT = same_document_mask(doc_ids_BT)
    bias_BTT = torch.zeros(mask_BTT.shape, dtype=dtype).masked_fill_(~mask_BTT, -math.inf)
    first_seen_BT: list[list[int]] = mask_BTT.to(torch.uint8).argmax(dim=-1).tolist()
    return Blocks(bias_BTT, [span for row, first in enumerate(first_seen_BT) for span in _spans(row, first)])


def same_document_mask(doc_ids_BT: Tensor) -> Tensor:
    """True where a token may look: its own document, no later token. [B, T, T]."""
    return (doc_ids_BT.unsqueeze(2) == doc_ids_BT.unsqueeze(1)).tril_()


def _spans(row: int, first_seen_T: list[int]) -> list[tuple[int, int, int, int]]:
    """Cut one row into blocks of queries; ``first_seen_T`` is the first token each one sees."""
    spans, start = [], 0
    for stop in range(1, len(first_seen_T) + 1):
        ends_here = stop == len(first_seen_T) or (first_seen_T[stop] == stop and stop - start >= _FEWEST_ROWS)
        if ends_here or stop - start == _MOST_ROWS:
            spans.append((row, start, stop, min(first_seen_T[start:stop])))
            start = stop
    return spans


def attend(
    q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, visible: Blocks | BlockMask, scale: float
) -> tuple[Tensor, Tensor]:
    """softmax(q·k·scale) · v over visible pairs [B, T, H, V], and the largest such logit of each head [H]."""
    if isinstance(visible, Blocks):
        return _BlockAttention.apply(q_BTHK, k_BTHK, v_BTHV, visible, scale)  # type: ignore[no-untyped-call]
    return _flex_attend(q_BTHK, k_BTHK, v_BTHV, visible, scale)


def attend_plain(
    q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, mask_BTT: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """The same, with all scores in one tensor: the reference."""
    scores_BHTT = torch.einsum("bthk,bshk->bhts", q_BTHK, k_BTHK) * scale
    scores_BHTT = scores_BHTT.masked_fill(~mask_BTT.unsqueeze(1), -math.inf)
    out_BTHV = torch.einsum("bhts,bshv->bthv", scores_BHTT.softmax(dim=-1), v_BTHV)
    return out_BTHV, scores_BHTT.detach().amax(dim=(0, 2, 3))


def attend_biased(q_BTHK: Tensor, k_BSHK: Tensor, v_BSHV: Tensor, bias_BTS: Tensor, scale: float) -> Tensor:
    """softmax(q·k·scale + bias) · v, [B, T, H, V], for queries and keys of different number: prefill behind a cache."""
    padding = q_BTHK.shape[-1] - v_BSHV.shape[-1]
    # The fused kernel wants keys and values of one width.
    k_BHSK, v_BHSK = k_BSHK.transpose(1, 2), F.pad(v_BSHV, (0, max(padding, 0))).transpose(1, 2)
    q_BHTK = q_BTHK.transpose(1, 2)
    if padding < 0:
        q_BHTK, k_BHSK = F.pad(q_BHTK, (0, -padding)), F.pad(k_BHSK, (0, -padding))
    out_BHTV = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=bias_BTS.unsqueeze(1), scale=scale)
    return out_BHTV[..., : v_BSHV.shape[-1]].transpose(1, 2)


class _BlockAttention(torch.autograd.Function):
    """Block after block, all heads at once; keeps the weights for backward.

    Beats the fused CPU kernel at the widths and lengths a CPU trains: no padding of values, nothing
    computed across documents or above the diagonal, and the logits are there to be looked at.
    Memory for backward: H·T²/2 numbers a layer and row at most.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, blocks: Blocks, scale: float
    ) -> tuple[Tensor, Tensor]:
        out_BTHV = torch.empty_like(v_BTHV, memory_format=torch.contiguous_format)
        max_logits_H = q_BTHK.new_full((q_BTHK.shape[2],), -math.inf)
        q_BHTK, k_BHKT, v_BHTV = q_BTHK.transpose(1, 2), k_BTHK.permute(0, 2, 3, 1), v_BTHV.transpose(1, 2)
        out_BHTV = out_BTHV.transpose(1, 2)
        weights: list[Tensor] = []
        for row, start, stop, first in blocks.spans:
            bias_ts = blocks.bias_BTT[row % len(blocks.bias_BTT), start:stop, first:stop]
            scores_Hts = torch.baddbmm(bias_ts, q_BHTK[row, :, start:stop], k_BHKT[row, :, :, first:stop], alpha=scale)
            torch.maximum(max_logits_H, scores_Hts.amax(dim=(1, 2)), out=max_logits_H)
            torch.softmax(scores_Hts, -1, out=scores_Hts)
            out_BHTV[row, :, start:stop] = scores_Hts.bmm(v_BHTV[row, :, first:stop])
            weights.append(scores_Hts)
        ctx.spans, ctx.scale = blocks.spans, scale
        ctx.save_for_backward(q_BTHK, k_BTHK, v_BTHV, *weights)
        ctx.mark_non_differentiable(max_logits_H)
        return out_BTHV, max_logits_H

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_BTHV: Tensor, _: None) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q_BTHK, k_BTHK, v_BTHV, *weights = ctx.saved_tensors
        grad_q_BTHK = torch.empty_like(q_BTHK)
        grad_k_BTHK = torch.zeros_like(k_BTHK)
        grad_v_BTHV = torch.zeros_like(v_BTHV, memory_format=torch.contiguous_format)
        q_BHTK, k_BHTK, v_BHVT = q_BTHK.transpose(1, 2), k_BTHK.transpose(1, 2), v_BTHV.permute(0, 2, 3, 1)
        grad_BHTV, grad_q_BHTK = grad_BTHV.transpose(1, 2), grad_q_BTHK.transpose(1, 2)
        grad_k_BHTK, grad_v_BHTV = grad_k_BTHK.transpose(1, 2), grad_v_BTHV.transpose(1, 2)
        for (row, start, stop, first), weights_Hts in zip(ctx.spans, weights, strict=True):
            grad_HtV = grad_BHTV[row, :, start:stop]
            grad_v_BHTV[row, :, first:stop] += weights_Hts.mT.bmm(grad_HtV)
            grad_Hts = grad_HtV.bmm(v_BHVT[row, :, :, first:stop])
            torch._softmax_backward_data(grad_Hts, weights_Hts, -1, grad_Hts.dtype, grad_input=grad_Hts)
            grad_q_BHTK[row, :, start:stop] = grad_Hts.bmm(k_BHTK[row, :, first:stop])
            grad_k_BHTK[row, :, first:stop] += grad_Hts.mT.bmm(q_BHTK[row, :, start:stop])
        return grad_q_BTHK.mul_(ctx.scale), grad_k_BTHK.mul_(ctx.scale), grad_v_BTHV, None, None


def _flex_mask(doc_ids_BT: Tensor | None, tokens_BT: Tensor) -> BlockMask:
    batch, length = tokens_BT.shape[:2]

    def causal(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query >= key

    def in_document(batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert doc_ids_BT is not None
        return (query >= key) & (doc_ids_BT[batch, query] == doc_ids_BT[batch, key])

    if doc_ids_BT is None:
        return create_block_mask(causal, None, None, length, length, tokens_BT.device)
    return create_block_mask(in_document, batch, None, length, length, tokens_BT.device)


def _flex_attend(
    q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, mask: BlockMask, scale: float
) -> tuple[Tensor, Tensor]:
    """One fused kernel on CUDA; its running row maxima are the max logits."""
    q_BHTK, k_BHTK, v_BHTV = (x.to(v_BTHV.dtype).transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHV))
    out_BHTV, aux = _compiled_flex()(
        q_BHTK, k_BHTK, v_BHTV, block_mask=mask, scale=scale, return_aux=AuxRequest(max_scores=True)
    )
    return out_BHTV.transpose(1, 2), aux.max_scores.detach().amax(dim=(0, 2))


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    """Compiled at first use: only CUDA needs it."""
    return torch.compile(flex_attention, dynamic=False)
