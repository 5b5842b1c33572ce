"""The compiled forward pass over a model's own weights: no copy, hardly an operation of PyTorch.

Shapes as in ``kernels``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openk2.engine import kernels
from openk2.engine.compiled import can_compile
from openk2.engine.intrinsics import give_up
from openk2.engine.pages import Ints
from openk2.model import rope
from openk2.model.config import ModelConfig
from openk2.model.moe import MoE, SwiGLU
from openk2.model.transformer import Layer, Transformer

Floats = npt.NDArray[np.float32]
# float32, or bfloat16 as the integers of its bits
Stored = npt.NDArray[np.float32] | npt.NDArray[np.uint16]
# What a thread has to do, in multiplications, to be worth the tenths of a millisecond in which it wakes up.
_WORTH_A_THREAD = 3_000_000


class Decoder:
    """Computes few tokens of many sequences.

    Reads weights where they are: those changed in place are seen, those that a module got instead are not.
    """

    def __init__(self, model: Transformer) -> None:
        """``model`` is whole, and one that ``can_compile``."""
        self._model, self._shape = model, _shape(model)
        self._look_at_weights()
        self._work_of_a_token = _multiplications(model.config)
        self._cos_SP = self._sin_SP = np.empty((0, 0), np.float32)
        self._outs_TJD = np.empty((0, model.config.num_experts_per_token + 1, model.config.hidden_size), np.float32)
        self._pool: ThreadPoolExecutor | None = None
        self._pool_is_for = 0, 0

    def step(
        self,
        tokens_T: Ints,
        lengths_T: Ints,
        pages_TW: Ints,
        latents_MPGL: Tensor,
        chosen_MTJ: Ints,
        wanted_A: Ints | None = None,
    ) -> Tensor:
        """Logits [A, Z] after the ``wanted`` tokens (None: after all); every token's latent goes into the cache.

        Args:
            tokens_T: new tokens, those of one sequence in order.
            lengths_T: tokens of each one's sequence up to itself.
            pages_TW: where its sequence lies in the cache.
            latents_MPGL: the cache.
            chosen_MTJ: receives the experts of each layer.
        """
        # Addresses own nothing: an assignment to ``.data``, as ``.to()`` makes, frees the numbers behind them.
        if [tensor.data_ptr() for tensor in self._tensors] != self._seen_at:
            self._look_at_weights()
        num_tokens, config = len(tokens_T), self._model.config
        wanted_A = np.arange(num_tokens) if wanted_A is None else wanted_A
        cos_SP, sin_SP = self._turns(int(lengths_T.max()))
        logits_AZ = np.empty((len(wanted_A), config.vocab_size), np.float32)
        arguments = (
            self._shape, self._layers_M, self._norm_D[:0], self._bias_E[:0], self._norm_D, self._head_ZD,
            _widened(self._embedding_ZD[tokens_T]), cos_SP, sin_SP,
            _stored(latents_MPGL), pages_TW, lengths_T, chosen_MTJ, *self._room(num_tokens),
            wanted_A, logits_AZ, np.zeros(len(self._layers_M) + 1, np.int64),
        )  # fmt: skip
        self._together(arguments, num_threads=self._num_threads(num_tokens))
        return torch.from_numpy(logits_AZ)

    def _look_at_weights(self) -> None:
        """Note where the weights lie. Raises RuntimeError for what the kernels cannot read."""
        model = self._model
        if not can_compile(model):
            raise RuntimeError("the compiled decoder wants contiguous weights, all float32 or all bfloat16, on a CPU")
        assert model.embed_tokens is not None
        assert model.lm_head is not None
        assert model.norm is not None
        layers = cast(Iterable[Layer], model.layers.values())
        self._tensors = list(model.state_dict(keep_vars=True).values())
        self._seen_at = [tensor.data_ptr() for tensor in self._tensors]
        self._layers_M = np.array([tuple(_addresses(layer)) for layer in layers], dtype=kernels.LAYER)
        self._embedding_ZD, self._head_ZD = _stored(model.embed_tokens.weight), _stored(model.lm_head.weight)
        self._norm_D = _stored(model.norm.weight)
        biases = [router.e_score_correction_bias for router in model.routers()]
        self._bias_E = _stored(biases[0]) if biases else self._norm_D

    def _turns(self, length: int) -> tuple[Floats, Floats]:
        """Cosines and sines of at least the first ``length`` positions, both [S, P]."""
        if length > len(self._cos_SP):
            positions_1S = torch.arange(2 * length, device="cpu").unsqueeze(0)
            turns_SP = rope.turns(self._model.config, positions_1S, self._model.inv_freq_P)[0]
            self._cos_SP, self._sin_SP = turns_SP.real.contiguous().numpy(), turns_SP.imag.contiguous().numpy()
        return self._cos_SP, self._sin_SP

    def _room(self, num_tokens: int) -> tuple[Floats, Floats, Floats]:
        """Room to work in: ``normed``, ``gates`` and ``outs`` of ``kernels.step``."""
        if num_tokens > len(self._outs_TJD):
            self._outs_TJD = np.empty((num_tokens, *self._outs_TJD.shape[1:]), np.float32)
        _, slots, width = self._outs_TJD.shape
        normed_TD, gates_TJ = np.empty((num_tokens, width), np.float32), np.empty((num_tokens, slots - 1), np.float32)
        return normed_TD, gates_TJ, self._outs_TJD[:num_tokens]

    def _num_threads(self, num_tokens: int) -> int:
        return max(1, min(torch.get_num_threads(), num_tokens * self._work_of_a_token // _WORTH_A_THREAD))

    def _together(self, arguments: tuple[Any, ...], *, num_threads: int) -> None:
        """Run the step in so many threads. It lets go of Python's lock, so that they run at once."""
        meeting = np.zeros(3, np.int64)

        def run(thread: int) -> None:
            try:
                kernels.step(*arguments, meeting, thread, num_threads)
            except BaseException:
                give_up(meeting)
                raise

        others = list[Future[None]]()
        try:
            for thread in range(1, num_threads):
                others.append(self._threads(num_threads - 1).submit(run, thread))
            run(0)
            for other in others:
                other.result()
        except BaseException:  # Ctrl-C at any moment: those that started must not wait for those that never will
            give_up(meeting)
            wait(others)
            raise

    def _threads(self, num_threads: int) -> ThreadPoolExecutor:
        """A pool in which that many run at once, as those who meet must; a forked process has none of its parent's."""
        process, size = self._pool_is_for
        if self._pool is None or process != os.getpid() or size < num_threads:
            if self._pool is not None and process == os.getpid():
                self._pool.shutdown()
            self._pool_is_for = os.getpid(), num_threads
            self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="openk2-decoder")
        return self._pool


def warm_up() -> None:
    """Compile the kernels, or find them compiled: the first step of a process need not wait for that."""
    config = ModelConfig(
        vocab_size=8, hidden_size=8, num_layers=2, intermediate_size=8, moe_intermediate_size=4, num_heads=2,
        kv_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4, num_experts=2, num_experts_per_token=1,
    )  # fmt: skip
    one, pages_TW = np.ones(1, np.int64), np.zeros((1, 1), np.int64)
    for dtype in (torch.float32, torch.bfloat16):
        model = Transformer(config).initialize(0).to(dtype)
        latents_MPGL = torch.zeros(2, 1, 4, 8, dtype=dtype)
        Decoder(model).step(one, one, pages_TW, latents_MPGL, np.zeros((2, 1, 1), np.int64))


def _shape(model: Transformer) -> Any:
    """The model's ``kernels.SHAPE``."""
    c = model.config
    layer: Layer = next(iter(model.layers.values()))  # type: ignore[assignment]
    whole = {
        "hidden": c.hidden_size, "heads": c.num_heads, "query_latent": c.q_lora_rank or 0, "nope": c.qk_nope_head_dim,
        "rope": c.qk_rope_head_dim, "value": c.v_head_dim, "latent": c.kv_lora_rank, "intermediate": c.intermediate_size,
        "expert": c.moe_intermediate_size, "shared": c.num_shared_experts * c.moe_intermediate_size,
        "experts": c.num_experts, "groups": c.num_expert_groups, "groups_kept": c.num_groups_per_token,
        "eps": layer.input_layernorm.eps, "latent_eps": layer.self_attn.kv_a_layernorm.eps,
        "softmax_scale": layer.self_attn.softmax_scale, "gate_sum": c.routed_scaling_factor,
    }  # fmt: skip
    return np.array([tuple(whole[name] for name in kernels.SHAPE.names or ())], dtype=kernels.SHAPE)[0]


def _addresses(layer: Layer) -> Iterable[int]:
    """The layer's ``kernels.LAYER``."""
    attention, mlp = layer.self_attn, layer.mlp
    where: dict[str, Tensor] = {
        "input_norm": layer.input_layernorm.weight,
        "kv_a": attention.kv_a_proj_with_mqa.weight,
        "kv_a_norm": attention.kv_a_layernorm.weight,
        "kv_b": attention.kv_b_proj.weight,
        "o": attention.o_proj.weight,
        "post_norm": layer.post_attention_layernorm.weight,
    }
    if attention.config.q_lora_rank is None:
        where |= {"q": attention.q_proj.weight}
    else:
        where |= {
            "q_a": attention.q_a_proj.weight,
            "q_a_norm": attention.q_a_layernorm.weight,
            "q": attention.q_b_proj.weight,
        }
    if isinstance(mlp, SwiGLU):
        where |= {"gate_up": mlp.gate_up_proj.weight, "down": mlp.down_proj.weight}
    else:
        moe: MoE = mlp
        where |= {"router": moe.gate.weight, "bias": moe.gate.e_score_correction_bias}
        where |= {"expert_gate_up": moe.experts.gate_up, "expert_down": moe.experts.down}
        if moe.shared_experts is not None:
            where |= {
                "shared_gate_up": moe.shared_experts.gate_up_proj.weight,
                "shared_down": moe.shared_experts.down_proj.weight,
            }
    return (where[name].data_ptr() if name in where else 0 for name in kernels.LAYER.names or ())


def _multiplications(c: ModelConfig) -> int:
    """What one token costs in all layers, the cache left out."""
    attention = (
        c.hidden_size * c.num_heads * (c.qk_head_dim + c.v_head_dim) + 2 * c.num_heads * c.kv_lora_rank * c.qk_head_dim
    )
    active = (c.num_experts_per_token + c.num_shared_experts) * c.moe_intermediate_size or c.intermediate_size
    return c.num_layers * (attention + 3 * c.hidden_size * active) + c.vocab_size * c.hidden_size


def _stored(weight: Tensor) -> Stored:
    """A view on its numbers."""
    weight = weight.detach()
    return weight.view(torch.int16).numpy().view(np.uint16) if weight.dtype == torch.bfloat16 else weight.numpy()


def _widened(stored: Stored) -> Floats:
    if stored.dtype == np.float32:
        return cast(Floats, stored)
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
