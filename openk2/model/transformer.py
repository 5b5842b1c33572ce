"""The decoder: embedding, layers by global index, final norm, head (K2 §2.3).

Shapes: B batch, T tokens, D model, V vocabulary, P rotary pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from openk2.model import rope
from openk2.model.attention import LatentAttention, LatentCache, linear
from openk2.model.attention_kernels import Blocks, visibility
from openk2.model.config import ModelConfig
from openk2.model.copying_start import write_copying_start
from openk2.model.layout import Layout, publish
from openk2.model.moe import Dispatch, MoE, Router, Routing, SwiGLU, dispatch_locally
from openk2.model.norm import RMSNorm


class Layer(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = LatentAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp: MoE | SwiGLU = (
            MoE(config, layer) if config.is_moe(layer) else SwiGLU(config.hidden_size, config.intermediate_size)
        )

    def forward(
        self,
        x_BTD: Tensor,
        turns_BTP: Tensor,
        visible: Blocks | BlockMask | None,
        cache: LatentCache | None,
        routing: Routing | None,
        dispatch: Dispatch,
    ) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), turns_BTP, visible, cache)
        normed_BTD = self.post_attention_layernorm(x_BTD)
        if isinstance(self.mlp, MoE):
            return x_BTD + self.mlp(normed_BTD, routing, dispatch)
        return x_BTD + self.mlp(normed_BTD)


class Transformer(nn.Module):
    """A whole model, or the slice of it that one pipeline stage holds.

    ``layers`` names the global layer numbers held here; names of parameters do not depend on it.
    Without ``embedding`` the input is hidden states; without ``head`` so is the output.
    """

    inv_freq_P: Tensor

    def __init__(
        self,
        config: ModelConfig,
        *,
        layers: Iterable[int] | None = None,
        embedding: bool = True,
        head: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size) if embedding else None
        if self.embed_tokens is not None:
            publish(self.embed_tokens.weight, Layout("embedding"))
        held = range(config.num_layers) if layers is None else layers
        self.layers = nn.ModuleDict({str(layer): Layer(config, layer) for layer in held})
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps) if head else None
        self.lm_head = linear(config.hidden_size, config.vocab_size, Layout("head")) if head else None
        self.register_buffer("inv_freq_P", rope.frequencies(config), persistent=False)

    @torch.no_grad()
    def initialize(self, seed: int) -> Transformer:
        """Draw every weight from its own seeded normal: the same under any pipeline split.

        Norm gains stay 1 and router biases 0.
        """
        for name, parameter in self.named_parameters():
            role = parameter.published.role  # type: ignore[attr-defined]
            if role == "norm":
                continue
            std = self.config.init_std
            if role == "embedding" and self.config.embedding_std is not None:
                std = self.config.embedding_std
            generator = torch.Generator().manual_seed(_seed_for(name, seed))
            drawn = torch.empty(parameter.shape, dtype=torch.float32).normal_(0.0, std, generator=generator)
            parameter.copy_(drawn)
        if self.config.start == "copying":
            write_copying_start(self, torch.Generator().manual_seed(_seed_for("copying", seed)))
        return self

    def forward(
        self,
        tokens_or_hidden: Tensor,
        *,
        positions: Tensor,
        doc_ids: Tensor | None = None,
        cache: LatentCache | None = None,
        routing: Routing | None = None,
        dispatch: Dispatch = dispatch_locally,
    ) -> Tensor:
        """Logits [B, T, V], or hidden states [B, T, D] where the head is not held here.

        Args:
            tokens_or_hidden: token ids [B, T], or hidden states [B, T, D] without embedding.
            positions: position of each token in its own document, [B, T].
            doc_ids: document of each token, [B, T]; attention stays inside a document. None: one a row.
            cache: latents of earlier tokens; when given, attention reads and extends it.
            routing: expert choices to record or replay.
            dispatch: how tokens reach experts.
        """
        hidden_BTD = self.hidden(
            tokens_or_hidden, positions=positions, doc_ids=doc_ids, cache=cache, routing=routing, dispatch=dispatch
        )
        return hidden_BTD if self.lm_head is None else self.lm_head(hidden_BTD)

    def hidden(
        self,
        tokens_or_hidden: Tensor,
        *,
        positions: Tensor,
        doc_ids: Tensor | None = None,
        cache: LatentCache | None = None,
        routing: Routing | None = None,
        dispatch: Dispatch = dispatch_locally,
    ) -> Tensor:
        """What the head sees: final (normed) hidden states [B, T, D]. Arguments as in ``forward``."""
        x_BTD = tokens_or_hidden if self.embed_tokens is None else self.embed_tokens(tokens_or_hidden)
        turns_BTP = rope.turns(self.config, positions, self.inv_freq_P)
        visible = visibility(doc_ids, x_BTD) if cache is None or cache.fresh else None
        for layer in self.layers.values():
            x_BTD = layer(x_BTD, turns_BTP, visible, cache, routing, dispatch)
        return x_BTD if self.norm is None else self.norm(x_BTD)

    def routers(self) -> list[Router]:
        """The routers held here, in layer order."""
        return [module for module in self.modules() if isinstance(module, Router)]

    def attentions(self) -> list[LatentAttention]:
        """The attention modules held here, in layer order."""
        return [module for module in self.modules() if isinstance(module, LatentAttention)]


def _seed_for(name: str, seed: int) -> int:
    """A stable 63-bit seed from a parameter's name (Python's own hash changes between runs)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") >> 1
