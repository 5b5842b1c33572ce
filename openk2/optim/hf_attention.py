"""QK-Clip on Hugging Face models: note the largest logit of each head beside the attention a model runs.

Needs transformers, which nothing else here does. Shapes: B rows, T queries, S keys, H query heads, G key heads,
K head width, V value width, C rank of a latent, X a head's keys and values.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from openk2.optim.max_logits import max_logits
from openk2.optim.qk_clip import clippable

try:
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
except ImportError as error:
    raise ImportError('QK-Clip on Hugging Face models needs transformers 5: pip install "openk2[hf]"') from error

# What attention can run as while it is observed, and the ending of its name then.
IMPLEMENTATIONS = ("sdpa", "eager")
OBSERVED = "_max_logits"
# Of q or k after their projection. DeepSeek's q_a_layernorm comes before it.
NORM = re.compile(r"(q|k|qk|query|key)_?(layer)?_?norm")


def observe(model: nn.Module) -> Callable[[], None]:
    """Give each attention module of ``model`` ``max_logits_H`` and ``qk_views()``, noted while it trains.

    Results stay what they were; the maxima run over all forward passes until a clip resets them, over what
    the attention mask lets through. Returns what undoes it. Known are modules with q_proj and k_proj (Llama, Mistral,
    Qwen2 and many others) and DeepSeek's latent attention (V2, V3, Kimi K2), run as sdpa or eager. Raises ValueError,
    naming the module, for any other, and for one that normalises q and k, where a clip would change nothing;
    TypeError for a model that is not transformers' own, or is wrapped.
    """
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"observe wants a transformers PreTrainedModel, unwrapped, not {type(model).__name__}")
    if clippable(model):
        raise ValueError(f"{type(model).__name__} is observed already")
    views = {module: _views_of(path, module) for path, module in _attention_of(model)}
    running = sorted({module.config._attn_implementation.removesuffix(OBSERVED) for module in views})
    if len(running) != 1 or running[0] not in IMPLEMENTATIONS:
        raise ValueError(
            f"attention of {type(model).__name__} runs as {' and '.join(running)}; logits are observed in "
            f"{' or '.join(IMPLEMENTATIONS)}: set_attn_implementation first"
        )
    before, name = model.config._attn_implementation, running[0] + OBSERVED
    AttentionInterface.register(name, partial(_attend, running[0]))
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[running[0]])
    model.set_attn_implementation(name)
    if any(module.config._attn_implementation != name for module in views):
        model.set_attn_implementation(before)
        raise ValueError(f"{type(model).__name__} does not let its attention be set")
    for module, qk_views in views.items():
        rows = next(iter(qk_views(module).values()))
        top_H = torch.full((len(rows),), -torch.inf, device=rows.device)
        module.register_buffer("max_logits_H", top_H, persistent=False)
        module.qk_views = MethodType(qk_views, module)

    def undo() -> None:
        model.set_attn_implementation(before)
        for module in views:
            del module.max_logits_H, module.qk_views

    return undo


def _attend(
    running: str,
    module: Any,
    query_BHTK: Tensor,
    key_BGSK: Tensor,
    value_BGSV: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **rest: Any,
) -> Any:
    """The model's own attention, and beside it the maxima."""
    # A configuration, which names the attention, may be shared with a model that is not observed.
    if module.training and hasattr(module, "max_logits_H"):
        causal = running == "sdpa" and attention_mask is None and _is_causal(module, rest) and query_BHTK.shape[2] > 1
        scale = query_BHTK.shape[-1] ** -0.5 if scaling is None else scaling
        top_H = max_logits(
            query_BHTK.transpose(1, 2), key_BGSK.transpose(1, 2), scale, _visible(attention_mask), causal
        )
        module.max_logits_H.copy_(torch.maximum(module.max_logits_H, top_H))
    scope = _scope(module)
    attend = scope["ALL_ATTENTION_FUNCTIONS"].get_interface(running, scope["eager_attention_forward"])
    return attend(module, query_BHTK, key_BGSK, value_BGSV, attention_mask, scaling=scaling, **rest)


def _is_causal(module: Any, given: dict[str, Any]) -> bool:
    """What sdpa goes by where it is given no mask."""
    said = given.get("is_causal")
    return getattr(module, "is_causal", True) if said is None else said


def _visible(attention_mask: Tensor | None) -> Tensor | None:
    """True where a query sees a key: masks are that already, or numbers to add, hugely negative where it does not."""
    if attention_mask is None or attention_mask.dtype == torch.bool:
        return attention_mask
    return attention_mask > torch.finfo(attention_mask.dtype).min / 2


def _scope(module: Any) -> dict[str, Any]:
    """The names that the module's forward sees: transformers looks up attention among them."""
    return inspect.unwrap(type(module).forward).__globals__


def _attention_of(model: nn.Module) -> list[tuple[str, Any]]:
    """The modules called attention that hold no other such, with their paths."""
    named = [(path, module) for path, module in model.named_modules() if _is_attention(module)]
    inner = [(path, module) for path, module in named if sum(map(_is_attention, module.modules())) == 1]
    if not inner:
        raise ValueError(f"{type(model).__name__} has no module whose class is called attention")
    return inner


def _is_attention(module: nn.Module) -> bool:
    return "Attention" in type(module).__name__


def _views_of(path: str, module: Any) -> Callable[[Any], dict[str, Tensor]]:
    """How to view the weights of a module. Raises ValueError where QK-Clip cannot serve it."""
    norms = [name for name, _ in module.named_children() if NORM.match(name)]
    if norms:
        raise ValueError(
            f"{path} ({type(module).__name__}) normalises q and k ({', '.join(norms)}): "
            "scaling their weights does not change its logits, so there is nothing for QK-Clip to do"
        )
    if {"ALL_ATTENTION_FUNCTIONS", "eager_attention_forward"} <= _scope(module).keys():
        if _is_latent(module):
            return _latent_views
        if _is_plain(module):
            return _plain_views
    raise ValueError(
        f"{path} ({type(module).__name__}) is not known to QK-Clip: it needs transformers' AttentionInterface, and "
        "linear q_proj and k_proj of num_attention_heads·head_dim rows or DeepSeek's q_b_proj and kv_b_proj; else "
        "give the module max_logits_H and qk_views() yourself"
    )


def _heads(module: Any, name: str, width: int, *, bias: bool = False) -> int:
    """How many heads of ``width`` a projection makes; 0 where it is more than a weight (and a bias, where allowed)."""
    linear: Any = getattr(module, name, None)
    usable = isinstance(linear, nn.Linear) and linear.weight.is_floating_point() and (bias or linear.bias is None)
    return len(linear.weight) // width if usable and len(linear.weight) % width == 0 else 0


def _num_heads(module: Any) -> int:
    return getattr(getattr(module, "config", None), "num_attention_heads", -1)


def _is_plain(module: Any) -> bool:
    if not hasattr(module, "head_dim"):
        return False
    q, k = (_heads(module, name, module.head_dim, bias=True) for name in ("q_proj", "k_proj"))
    return q == _num_heads(module) == k * getattr(module, "num_key_value_groups", 1)


def _plain_views(module: Any) -> dict[str, Tensor]:
    weights = {"q": module.q_proj.weight, "k": module.k_proj.weight}
    weights |= {"q_bias": module.q_proj.bias, "k_bias": module.k_proj.bias}
    given = {name: weight.detach() for name, weight in weights.items() if weight is not None}
    return {name: weight.unflatten(0, (-1, module.head_dim)) for name, weight in given.items()}


def _is_latent(module: Any) -> bool:
    if not (hasattr(module, "kv_b_proj") and hasattr(module, "qk_head_dim")):
        return False
    q = _heads(module, _latent_query(module), module.qk_head_dim)
    kv = _heads(module, "kv_b_proj", module.qk_nope_head_dim + module.v_head_dim)
    return q == _num_heads(module) == kv


def _latent_query(module: Any) -> str:
    return "q_proj" if module.q_lora_rank is None else "q_b_proj"


def _latent_views(module: Any) -> dict[str, Tensor]:
    nope = module.qk_nope_head_dim
    q_HKC = getattr(module, _latent_query(module)).weight.detach().unflatten(0, (-1, module.qk_head_dim))
    kv_HXC = module.kv_b_proj.weight.detach().unflatten(0, (-1, nope + module.v_head_dim))
    return {"q_nope": q_HKC[:, :nope], "q_rope": q_HKC[:, nope:], "k_nope": kv_HXC[:, :nope]}
