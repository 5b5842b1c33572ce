"""Latents of past tokens in pages (K2 §2.3: multi-head latent attention caches C + R numbers a token).

Shapes: N layers, P pages, G tokens of a page, L = C + R latent width, B sequences of a batch, T new tokens,
S tokens read back, W pages of the longest sequence, K experts of a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from openk2.engine.config import EngineConfig
from openk2.engine.pages import Ints
from openk2.model.config import ModelConfig


class LatentPages:
    """One tensor [N, P + 2, G, L].

    Of the last two pages one takes what padding writes, and nobody reads it; the other is read where a sequence has no
    page, and nobody writes it: a masked position still enters a product with weight 0, so it must be a number.
    """

    def __init__(self, model: ModelConfig, config: EngineConfig, *, device: torch.device, dtype: torch.dtype) -> None:
        self.page_tokens, self.trash_page, self.zero_page = config.page_tokens, config.num_pages, config.num_pages + 1
        width = model.kv_lora_rank + model.qk_rope_head_dim
        shape = (model.num_layers, config.num_pages + 2, config.page_tokens)
        self.latents_NPGL = _lazy_zeros((*shape, width), device, dtype)
        self.experts_NPGK: Tensor | None = None
        if config.record_experts:
            self.experts_NPGK = _lazy_zeros((*shape, model.num_experts_per_token), device, torch.int16)

    @property
    def num_bytes(self) -> int:
        """Memory the cache may come to take. On CPU a page takes none before it is first written."""
        return sum(tensor.nbytes for tensor in (self.latents_NPGL, self.experts_NPGK) if tensor is not None)

    def view(self, pages_BW: Ints, cached_B: Ints, new_B: Ints) -> PagedView:
        """Sequences as a cache for one forward pass.

        Args:
            pages_BW: pages of each sequence, in order; at least as many as hold its tokens after the pass.
            cached_B: tokens whose latents each sequence has.
            new_B: tokens the pass adds to each, the others of its row being padding.
        """
        return PagedView(self, pages_BW, cached_B, new_B)

    def clear(self, page: int) -> None:
        """Wipe a page before it gets a new owner: what it held may be no number."""
        self.latents_NPGL[:, page] = 0.0

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Give page ``target`` the first tokens of page ``source``, and nothing else; both may be the same."""
        for tensor in (self.latents_NPGL, self.experts_NPGK):
            if tensor is not None:
                tensor[:, target, :num_tokens] = tensor[:, source, :num_tokens]
        self.latents_NPGL[:, target, num_tokens:] = 0.0

    def read(self, pages: Ints, num_tokens: int) -> Tensor:
        """Latents of a sequence's first tokens, [N, num_tokens, L]."""
        index = torch.from_numpy(pages).to(self.latents_NPGL.device)
        return self.latents_NPGL[:, index].flatten(1, 2)[:, :num_tokens]

    def write(self, pages: Ints, latents_NTL: Tensor) -> None:
        """Put back what ``read`` gave, into the same number of pages."""
        index = torch.from_numpy(pages).to(self.latents_NPGL.device)
        padding = len(pages) * self.page_tokens - latents_NTL.shape[1]
        padded = torch.nn.functional.pad(latents_NTL, (0, 0, 0, padding))
        self.latents_NPGL[:, index] = padded.unflatten(1, (len(pages), self.page_tokens)).to(self.latents_NPGL)

    def experts(self, pages: Ints, num_tokens: int) -> Tensor:
        """Expert choices of a sequence's first tokens, [num_tokens, N, K]; those of dense layers are 0."""
        assert self.experts_NPGK is not None
        index = torch.from_numpy(pages).to(self.experts_NPGK.device)
        return self.experts_NPGK[:, index].flatten(1, 2)[:, :num_tokens].transpose(0, 1)


class PagedView:
    """Some sequences during one forward pass: the model's ``LatentCache``."""

    def __init__(self, latents: LatentPages, pages_BW: Ints, cached_B: Ints, new_B: Ints) -> None:
        device, page_tokens = latents.latents_NPGL.device, latents.page_tokens
        num_new = int(new_B.max())
        positions_BT = cached_B[:, None] + np.arange(num_new)
        is_new_BT = np.arange(num_new) < new_B[:, None]
        width = -(-int((cached_B + new_B).max()) // page_tokens)
        page_BT = np.take_along_axis(pages_BW, np.minimum(positions_BT // page_tokens, width - 1), axis=1)
        page_BT[~is_new_BT] = latents.trash_page
        self._latents = latents
        self._shape = (len(pages_BW), width * page_tokens)
        num_pages_B = -(-(cached_B + new_B) // page_tokens)
        held_BW = np.where(np.arange(width) < num_pages_B[:, None], pages_BW[:, :width], latents.zero_page)
        self._pages = torch.from_numpy(held_BW.ravel()).to(device)
        self._slots = torch.from_numpy((page_BT * page_tokens + positions_BT % page_tokens).ravel()).to(device)
        self.positions_BT = torch.from_numpy(positions_BT).to(device)
        # On CUDA the kernel without cache is compiled for every shape anew, and reading back is cheap.
        self.fresh = device.type == "cpu" and not cached_B.any()
        self._bias_BTS: Tensor | None = None

    def write(self, layer: int, latent_BTL: Tensor) -> None:
        """Store the latents of the new tokens."""
        self._latents.latents_NPGL[layer].flatten(0, 1).index_copy_(0, self._slots, latent_BTL.flatten(0, 1))

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Latents of all tokens, [B, S, L], and 0 where a new token sees one, −inf elsewhere, [B, T, S]."""
        pages_XGL = self._latents.latents_NPGL[layer].index_select(0, self._pages)
        return pages_XGL.view(*self._shape, -1), self._bias(pages_XGL.dtype)

    def record(self, experts: Mapping[int, Tensor]) -> None:
        """Keep the experts that the new tokens went to: [B·T, K] for each layer."""
        assert self._latents.experts_NPGK is not None
        for layer, chosen_XK in experts.items():
            experts_XK = self._latents.experts_NPGK[layer].flatten(0, 1)
            experts_XK.index_copy_(0, self._slots, chosen_XK.to(experts_XK.dtype))

    def _bias(self, dtype: torch.dtype) -> Tensor:
        if self._bias_BTS is None:
            # A token sits at its own position, so it sees the positions up to it.
            positions_S = torch.arange(self._shape[1], device=self.positions_BT.device)
            unseen_BTS = positions_S > self.positions_BT.unsqueeze(-1)
            self._bias_BTS = torch.zeros(unseen_BTS.shape, dtype=dtype, device=unseen_BTS.device)
            self._bias_BTS.masked_fill_(unseen_BTS, -math.inf)
        return self._bias_BTS


def _lazy_zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros. On CPU they cost no memory before they are written: the system hands out untouched pages."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    num_bytes = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.zeros(num_bytes, dtype=np.uint8)).view(dtype).view(shape)
