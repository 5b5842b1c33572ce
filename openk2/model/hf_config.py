"""The shape of a model, to and from the ``config.json`` of released checkpoints (``deepseek_v3``, ``kimi_k2``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from openk2.model.config import ModelConfig, YarnConfig
from openk2.model.rope import rotation_scale

MODEL_TYPES = ("deepseek_v3", "kimi_k2")

# Our field: the released key.
_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_dense_layers": "first_k_dense_replace",
    "intermediate_size": "intermediate_size",
    "moe_intermediate_size": "moe_intermediate_size",
    "num_heads": "num_attention_heads",
    "q_lora_rank": "q_lora_rank",
    "kv_lora_rank": "kv_lora_rank",
    "qk_nope_head_dim": "qk_nope_head_dim",
    "qk_rope_head_dim": "qk_rope_head_dim",
    "v_head_dim": "v_head_dim",
    "num_experts": "n_routed_experts",
    "num_experts_per_token": "num_experts_per_tok",
    "num_shared_experts": "n_shared_experts",
    "num_expert_groups": "n_group",
    "num_groups_per_token": "topk_group",
    "routed_scaling_factor": "routed_scaling_factor",
    "max_positions": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps",
    "init_std": "initializer_range",
}
# What an absent or null key means; all other keys must be there.
_WHEN_NULL = {
    "q_lora_rank": None,
    "n_routed_experts": 0,
    "num_experts_per_tok": 0,
    "n_shared_experts": 0,
    "n_group": 1,
    "topk_group": 1,
    "initializer_range": 0.02,
}
# The one value of each choice that this architecture makes.
_FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "moe_layer_freq": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "rope_interleave": True,
}


def config_from_hf(released: Mapping[str, Any]) -> ModelConfig:
    """Read a released config.

    Raises ValueError, in one line naming the key, for another architecture, a missing key, or a choice
    this model does not make.
    """
    _check_architecture(released)
    rope = released.get("rope_scaling") or released.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise ValueError(f"config.json: rope_scaling must be an object, got {rope!r}")
    fields = {ours: _value(released, key) for ours, key in _KEYS.items()}
    if not fields["num_experts"]:
        fields["num_dense_layers"] = fields["num_layers"]
    fields["rope_theta"] = _value({**released, **rope}, "rope_theta")
    fields["yarn"] = _yarn_from_hf(rope)
    try:
        config = ModelConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(_KEYS.get(str(part), str(part)) for part in first["loc"])
        raise ValueError(f"config.json: {where or 'shape'}: {first['msg']}") from None
    implied = rotation_scale(config)
    given = rope.get("attention_factor") or implied
    if config.yarn and not (isinstance(given, float | int) and math.isclose(given, implied, rel_tol=1e-6)):
        raise ValueError(f"config.json: rope attention_factor must be {implied!r}, as mscale implies, got {given!r}")
    return config


def _check_architecture(released: Mapping[str, Any]) -> None:
    if released.get("model_type") not in MODEL_TYPES:
        raise ValueError(f"config.json: model_type {released.get('model_type')!r} is none of {', '.join(MODEL_TYPES)}")
    for key, value in _FIXED.items():
        if released.get(key, value) != value:
            raise ValueError(f"config.json: {key} must be {value!r}, got {released[key]!r}")
    heads, kv_heads = released.get("num_attention_heads"), released.get("num_key_value_heads")
    if kv_heads not in (None, heads):
        raise ValueError(f"config.json: num_key_value_heads must equal num_attention_heads ({heads}), got {kv_heads}")


def _value(section: Mapping[str, Any], key: str) -> Any:
    if (value := section.get(key)) is not None:
        return value
    if key not in _WHEN_NULL:
        raise ValueError(f"config.json: {key} is missing")
    return _WHEN_NULL[key]


def _yarn_from_hf(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "yarn":
        raise ValueError(f"config.json: rope type must be default or yarn, got {kind!r}")
    if rope.get("truncate", True) is not True:
        raise ValueError("config.json: rope truncate must be true")
    # Absent fields mean what they mean in DeepSeek's own code.
    return {
        "factor": _value(rope, "factor"),
        "original_max_positions": _value(rope, "original_max_position_embeddings"),
        "beta_fast": rope.get("beta_fast") or 32.0,
        "beta_slow": rope.get("beta_slow") or 1.0,
        "mscale": rope.get("mscale", 1.0),
        "mscale_all_dim": rope.get("mscale_all_dim", 0.0),
    }


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """Write a ``deepseek_v3`` config, as transformers and the usual servers expect it.

    ``embedding_std`` has no released key and is left out; so are token ids, which are the tokenizer's.
    """
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        **{key: getattr(config, ours) for ours, key in _KEYS.items()},
        "num_key_value_heads": config.num_heads,
        "num_nextn_predict_layers": 0,
        **_FIXED,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.yarn is None else _yarn_to_hf(config.yarn, rotation_scale(config)),
        # Readers would otherwise assume ids of their own.
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _yarn_to_hf(yarn: YarnConfig, attention_factor: float) -> dict[str, Any]:
    return {
        "type": "yarn",
        "factor": yarn.factor,
        "original_max_position_embeddings": yarn.original_max_positions,
        "beta_fast": yarn.beta_fast,
        "beta_slow": yarn.beta_slow,
        "mscale": yarn.mscale,
        "mscale_all_dim": yarn.mscale_all_dim,
        # Said outright, because readers derive it differently when an mscale is 0.
        "attention_factor": attention_factor,
    }
