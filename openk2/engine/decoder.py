"""The compiled decoding step over a model's own weights: no copy, hardly an operation of PyTorch.

Shapes as in ``kernels``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openk2.engine import kernels
from openk2.engine.compiled import can_compile
from openk2.engine.pages import Ints
from openk2.model import rope
from openk2.model.attention import LatentAttention
from openk2.model.config import ModelConfig
from openk2.model.moe import MoE, SwiGLU
from openk2.model.transformer import Layer, Transformer

Floats = npt.NDArray[np.float32]
# A thread with fewer rows than this reads the weights for too little.
_LEAST_ROWS = 4
# x_BD, cos_BP, sin_BP, latents_NPGL, pages_BW, lengths_B, chosen_NBK
Step = Callable[[Floats, Floats, Floats, Floats, Ints, Ints, Ints], None]


class Decoder:
    """Decodes one token a sequence. Holds views: weights changed in place are seen, replaced ones are not."""

    def __init__(self, model: Transformer) -> None:
        """``model`` is whole, and one that ``can_compile``."""
        assert can_compile(model), "the compiled decoder wants contiguous float32 weights on a CPU"
        assert model.embed_tokens is not None
        assert model.lm_head is not None
        assert model.norm is not None
        self._model = model
        self._embedding_VD, self._head_VD = _view(model.embed_tokens.weight), _view(model.lm_head.weight)
        self._norm_D, self._eps = _view(model.norm.weight), np.float32(model.norm.eps)
        self._layers = [
            step for layer in cast(Iterable[Layer], model.layers.values()) for step in (_attention(layer), _mlp(layer))
        ]
        self._pool: ThreadPoolExecutor | None = None

    def step(self, tokens_B: Ints, lengths_B: Ints, pages_BW: Ints, latents_NPGL: Tensor, chosen_NBK: Ints) -> Tensor:
        """Logits [B, V] after the last token of each sequence; its latent goes into the cache.

        Args:
            tokens_B: the last token of each.
            lengths_B: tokens of each, this one included.
            pages_BW: where each lies in the cache.
            latents_NPGL: the cache.
            chosen_NBK: receives the experts of each layer.
        """
        positions_1B = torch.from_numpy(lengths_B - 1).unsqueeze(0)
        turns_BP = rope.turns(self._model.config, positions_1B, self._model.inv_freq_P)[0]
        cos_BP, sin_BP = turns_BP.real.contiguous().numpy(), turns_BP.imag.contiguous().numpy()
        cache, logits_BV = latents_NPGL.numpy(), np.empty((len(tokens_B), len(self._head_VD)), np.float32)

        def compute(rows: slice) -> None:
            x_BD, chosen = self._embedding_VD[tokens_B[rows]], np.ascontiguousarray(chosen_NBK[:, rows])
            for layer in self._layers:
                layer(x_BD, cos_BP[rows], sin_BP[rows], cache, pages_BW[rows], lengths_B[rows], chosen)
            kernels.rms_norm(x_BD, self._norm_D, self._eps, x_BD)
            kernels.linear(x_BD, self._head_VD, logits_BV[rows])
            chosen_NBK[:, rows] = chosen

        # Kernels let go of Python's lock. Each thread takes some rows through all layers: they never wait for each other.
        num_threads = max(1, min(torch.get_num_threads(), len(tokens_B) // _LEAST_ROWS))
        bounds = [len(tokens_B) * i // num_threads for i in range(num_threads + 1)]
        parts = [slice(start, stop) for start, stop in pairwise(bounds)]
        others = [self._threads().submit(compute, part) for part in parts[1:]]
        compute(parts[0])
        for other in others:
            other.result()
        return torch.from_numpy(logits_BV)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="openk2-decoder")
        return self._pool


def warm_up() -> None:
    """Compile the kernels, or find them compiled: the first step of a process need not wait for that."""
    config = ModelConfig(
        vocab_size=8, hidden_size=8, num_layers=2, intermediate_size=8, moe_intermediate_size=4, num_heads=2,
        kv_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4, num_experts=2, num_experts_per_token=1,
    )  # fmt: skip
    model = Transformer(config).initialize(0)
    one, pages_BW, latents_NPGL = np.ones(1, np.int64), np.zeros((1, 1), np.int64), torch.zeros(2, 1, 4, 8)
    Decoder(model).step(one, one, pages_BW, latents_NPGL, np.zeros((2, 1, 1), np.int64))


def _attention(layer: Layer) -> Step:
    module: LatentAttention = layer.self_attn
    c, number = module.config, module.layer
    norm_D, eps = _view(layer.input_layernorm.weight), np.float32(layer.input_layernorm.eps)
    if c.q_lora_rank is None:
        q_a_QD, q_a_norm_Q, q_OQ = np.empty((0, 0), np.float32), np.empty(0, np.float32), _view(module.q_proj.weight)
    else:
        q_a_QD, q_a_norm_Q = _view(module.q_a_proj.weight), _view(module.q_a_layernorm.weight)
        q_OQ = _view(module.q_b_proj.weight)
    kv_a_LD, kv_a_norm_C = _view(module.kv_a_proj_with_mqa.weight), _view(module.kv_a_layernorm.weight)
    kv_HXC = _view(module.kv_b_proj.weight).reshape(c.num_heads, -1, c.kv_lora_rank)
    o_DO, latent_eps = _view(module.o_proj.weight), np.float32(module.kv_a_layernorm.eps)
    nope, scale = c.qk_nope_head_dim, np.float32(module.softmax_scale)

    def step(
        x_BD: Floats, cos_BP: Floats, sin_BP: Floats, cache: Floats, pages_BW: Ints, lengths_B: Ints, _: Ints
    ) -> None:
        kernels.attention(
            x_BD, norm_D, eps, q_a_QD, q_a_norm_Q, q_OQ, kv_a_LD, kv_a_norm_C, latent_eps, kv_HXC, o_DO,
            cos_BP, sin_BP, cache[number], pages_BW, lengths_B, nope, scale,
        )  # fmt: skip

    return step


def _mlp(layer: Layer) -> Step:
    norm_D, eps = _view(layer.post_attention_layernorm.weight), np.float32(layer.post_attention_layernorm.eps)
    mlp = layer.mlp
    if isinstance(mlp, SwiGLU):
        gate_up_XD, down_DF = _view(mlp.gate_up_proj.weight), _view(mlp.down_proj.weight)

        def dense(x_BD: Floats, *_: Floats | Ints) -> None:
            kernels.dense(x_BD, norm_D, eps, gate_up_XD, down_DF)

        return dense
    moe: MoE = mlp
    c, number = moe.gate.config, moe.layer
    router_ED, bias_E = _view(moe.gate.weight), _view(moe.gate.e_score_correction_bias)
    gate_up_EXD, down_EDF = _view(moe.experts.gate_up), _view(moe.experts.down)
    shared_gate_up_XD, shared_down_DF = np.empty((0, c.hidden_size), np.float32), np.empty((0, 0), np.float32)
    if moe.shared_experts is not None:
        shared_gate_up_XD = _view(moe.shared_experts.gate_up_proj.weight)
        shared_down_DF = _view(moe.shared_experts.down_proj.weight)
    groups, kept, factor = c.num_expert_groups, c.num_groups_per_token, np.float32(c.routed_scaling_factor)

    def step(x_BD: Floats, _c: Floats, _s: Floats, _l: Floats, _p: Ints, _n: Ints, chosen_NBK: Ints) -> None:
        kernels.mixture(
            x_BD, norm_D, eps, router_ED, bias_E, groups, kept, factor, gate_up_EXD, down_EDF,
            shared_gate_up_XD, shared_down_DF, chosen_NBK[number],
        )  # fmt: skip

    return step


def _view(weight: Tensor) -> Floats:
    return weight.detach().numpy()
