"""The next tokens of some rows through the model and into the cache: many by PyTorch, few compiled where that can be.

Shapes: B rows of a batch, T new tokens, D model, V vocabulary, W pages of a row, N layers, K experts of a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from openk2.engine.cache import LatentPages
from openk2.engine.compiled import can_compile, compiled_decoder
from openk2.engine.config import EngineConfig
from openk2.engine.fingerprint import fingerprint
from openk2.engine.pages import Ints
from openk2.engine.rows import Rows
from openk2.model.moe import Routing
from openk2.model.transformer import Transformer

if TYPE_CHECKING:
    from openk2.engine.decoder import Decoder

# New tokens for which compiled kernels are faster than PyTorch's products, beside one of each row.
_FEW_TOKENS = 96


class Runner:
    """A model and the cache it fills. Use under ``torch.no_grad`` and in evaluation mode."""

    def __init__(self, model: Transformer, config: EngineConfig) -> None:
        self.model, self.config = model, config
        self._cache: LatentPages | None = None
        self._decoder: Decoder | None = None
        self._fingerprint: str | None = None
        self.look_at_weights()

    @property
    def cache(self) -> LatentPages:
        """The cache, allocated when it is first wanted."""
        if self._cache is None:
            weight = self._embedding()
            self._cache = LatentPages(self.model.config, self.config, device=weight.device, dtype=weight.dtype)
        return self._cache

    @property
    def num_cache_bytes(self) -> int:
        """Memory the cache may come to take; 0 while there is none."""
        return 0 if self._cache is None else self._cache.num_bytes

    @property
    def fingerprint(self) -> str:
        """Tells the present weights from others."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.model)
        return self._fingerprint

    def drop_cache(self) -> None:
        """Give the cache's memory back."""
        self._cache = None

    def look_at_weights(self) -> None:
        """The weights may be other numbers, and other tensors of another type."""
        if self._cache is not None and self._cache.latents_NPGL.dtype != self._embedding().dtype:
            self.drop_cache()
        self.compiled = can_compile(self.model)
        self._decoder = self._fingerprint = None

    def logits(self, rows: Rows, rows_B: Ints, new_B: Ints) -> Tensor:
        """Compute the next ``new_B`` tokens of each of ``rows_B``; logits after the last of each, [B, V]."""
        if self.compiled and new_B.sum() <= max(len(rows_B), _FEW_TOKENS):
            return self._compiled_logits(rows, rows_B, new_B)
        cached_B = rows.table["cached"][rows_B]
        view = self.cache.view(rows.pages_RW[rows_B], cached_B, new_B)
        last = rows.tokens_RS.shape[1] - 1
        positions_BT = np.minimum(cached_B[:, None] + np.arange(new_B.max()), last)
        tokens = torch.from_numpy(rows.tokens_RS[rows_B[:, None], positions_BT]).to(view.positions_BT.device)
        routing = Routing() if self.config.record_experts else None
        hidden_BTD = self.model.hidden(tokens, positions=view.positions_BT, cache=view, routing=routing)
        if routing is not None:
            view.record({layer: chosen_BTK.flatten(0, 1) for layer, chosen_BTK in routing.experts.items()})
        assert self.model.lm_head is not None
        last_B = torch.from_numpy(new_B - 1).to(hidden_BTD.device)
        return self.model.lm_head(hidden_BTD[torch.arange(len(rows_B), device=last_B.device), last_B])

    def _compiled_logits(self, rows: Rows, rows_B: Ints, new_B: Ints) -> Tensor:
        """The same without PyTorch: every token a row of its own, M in all."""
        if self._decoder is None:
            self._decoder = compiled_decoder(self.model)
        ends_B = np.cumsum(new_B)
        rows_M = np.repeat(rows_B, new_B)
        before_M = rows.table["cached"][rows_M] + np.arange(len(rows_M)) - np.repeat(ends_B - new_B, new_B)
        pages_MW, tokens_M = rows.pages_RW[rows_M], rows.tokens_RS[rows_M, before_M]
        shape = self.model.config.num_layers, len(rows_M), self.model.config.num_experts_per_token
        chosen_NMK = np.zeros(shape, np.int64)
        logits_BV = self._decoder.step(
            tokens_M, before_M + 1, pages_MW, self.cache.latents_NPGL, chosen_NMK, ends_B - 1
        )
        if self.config.record_experts:
            view = self.cache.view(pages_MW, before_M, np.ones_like(rows_M))
            view.record(dict(enumerate(torch.from_numpy(chosen_NMK))))
        return logits_BV

    def _embedding(self) -> Tensor:
        assert self.model.embed_tokens is not None
        return self.model.embed_tokens.weight
