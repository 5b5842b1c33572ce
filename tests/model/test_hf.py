"""Checkpoints in and out, held against transformers' DeepseekV3ForCausalLM."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from openk2.model.config import ModelConfig, YarnConfig
from openk2.model.hf import load_hf, released_tensors, save_hf
from openk2.model.hf_config import config_from_hf, config_to_hf
from openk2.model.transformer import Transformer

transformers = pytest.importorskip("transformers")

PLAIN: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_layers": 3,
    "num_dense_layers": 1,
    "intermediate_size": 80,
    "moe_intermediate_size": 24,
    "num_heads": 4,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "num_experts": 8,
    "num_experts_per_token": 3,
    "num_shared_experts": 1,
    "routed_scaling_factor": 2.5,
    "max_positions": 64,
    "rope_theta": 10_000.0,
    # Far from the 1e-6 of the latent norms, which must not follow it.
    "rms_norm_eps": 1e-2,
    "init_std": 0.2,
}


def yarn(**fields: float) -> YarnConfig:
    return YarnConfig(factor=8.0, original_max_positions=8, **fields)  # type: ignore[arg-type]


CONFIGS = {
    "plain": PLAIN,
    "two dense layers": PLAIN | {"num_dense_layers": 2},
    "all dense": PLAIN | {"num_dense_layers": 3, "num_experts": 0, "num_experts_per_token": 0},
    "no dense layer, two shared": PLAIN | {"num_dense_layers": 0, "num_shared_experts": 2},
    "direct queries": PLAIN | {"q_lora_rank": None},
    "groups": PLAIN | {"num_experts": 16, "num_expert_groups": 4, "num_groups_per_token": 2},
    "yarn as K2": PLAIN | {"yarn": yarn(beta_fast=1.0, beta_slow=1.0)},
    "yarn as V3": PLAIN | {"yarn": yarn(beta_fast=32.0, beta_slow=1.0)},
    "yarn, other mscale": PLAIN | {"yarn": yarn(beta_fast=4.0, mscale=0.707, mscale_all_dim=1.3)},
    "yarn, mscale_all_dim 0": PLAIN | {"yarn": yarn(mscale=0.6, mscale_all_dim=0.0)},
    "yarn, mscale 0": PLAIN | {"yarn": yarn(mscale=0.0, mscale_all_dim=0.5)},
}


def build(fields: dict[str, Any] = PLAIN, seed: int = 0) -> Transformer:
    """A random model whose norms and router biases are random too."""
    model = Transformer(ModelConfig(**fields)).initialize(seed)
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if "norm" in name:
            tensor.uniform_(0.5, 1.5, generator=draw)
        elif name.endswith("e_score_correction_bias"):
            tensor.normal_(0, 0.3, generator=draw)
    return model.eval()


def some_tokens() -> torch.Tensor:
    return torch.randint(0, PLAIN["vocab_size"], (2, 40), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def our_logits(model: Transformer) -> torch.Tensor:
    tokens = some_tokens()
    return model.eval()(tokens, positions=torch.arange(tokens.shape[1]).expand_as(tokens)).float()


@torch.no_grad()
def their_logits(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model.eval()(some_tokens(), use_cache=False).logits
    return logits.float()


def load_theirs(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    model, info = transformers.DeepseekV3ForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model


def rewrite(folder: Path, change: Any) -> None:
    """Apply ``change`` to the tensors of a single-file checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_hf(build(), tmp_path / "model", dtype=torch.float32)
    return tmp_path / "model"


@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS.keys())
def test_both_directions_agree_with_transformers(fields: dict[str, Any], tmp_path: Path) -> None:
    ours = build(fields)
    expected = our_logits(ours)
    save_hf(ours, tmp_path / "ours", max_shard_bytes=30_000, dtype=torch.float32)
    theirs = load_theirs(tmp_path / "ours")
    torch.testing.assert_close(their_logits(theirs), expected, atol=1e-5, rtol=1e-5)

    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="30KB")
    back = load_hf(tmp_path / "theirs")
    assert back.config == ours.config
    assert back.state_dict().keys() == ours.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert torch.equal(our_logits(back), expected)


def test_a_model_that_transformers_drew(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = transformers.DeepseekV3Config(**config_to_hf(ModelConfig(**CONFIGS["groups"])))
    theirs = transformers.DeepseekV3ForCausalLM(config)
    theirs.save_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(our_logits(load_hf(tmp_path / "theirs")), their_logits(theirs), atol=1e-5, rtol=1e-5)


def test_parameters_stay_published(saved: Path) -> None:
    fresh = dict(build().named_parameters())
    for name, parameter in load_hf(saved).named_parameters():
        assert parameter.published == fresh[name].published  # type: ignore[attr-defined]
        assert parameter.requires_grad


def test_bfloat16_files(tmp_path: Path) -> None:
    ours = build()
    save_hf(ours, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    kept = {name for name, tensor in tensors.items() if tensor.dtype == torch.float32}
    assert kept == {f"model.layers.{layer}.mlp.gate.e_score_correction_bias" for layer in (1, 2)}
    loaded = load_hf(tmp_path / "model", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert loaded.inv_freq_P.dtype == torch.float32
    rounded = load_hf(tmp_path / "model")
    for name, parameter in ours.named_parameters():
        assert torch.equal(rounded.get_parameter(name), parameter.bfloat16().float())
    torch.testing.assert_close(our_logits(rounded), their_logits(load_theirs(tmp_path / "model")), atol=1e-5, rtol=1e-5)


def test_shards_hold_what_the_index_says(tmp_path: Path) -> None:
    ours = build()
    save_hf(ours, tmp_path / "model", max_shard_bytes=30_000, dtype=torch.float32)
    folder = tmp_path / "model"
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    views = dict(released_tensors(ours))
    assert weight_map.keys() == views.keys()
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 3
    for file in files:
        tensors = load_file(file)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 30_000
        for name, tensor in tensors.items():
            assert weight_map[name] == file.name
            assert torch.equal(tensor, views[name])
    assert not [path for path in tmp_path.iterdir() if path != folder]


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """e4m3 numbers, their block scales, and what they stand for, one block at a time."""
    rows, columns = weight.shape
    eight_bit = torch.empty(rows, columns, dtype=torch.float8_e4m3fn)
    scales = torch.empty((rows + 127) // 128, (columns + 127) // 128)
    meant = torch.empty_like(weight)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            block = slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128)
            scales[i, j] = weight[block].abs().max() / 448
            eight_bit[block] = (weight[block] / scales[i, j]).to(torch.float8_e4m3fn)
            meant[block] = eight_bit[block].float() * scales[i, j]
    return eight_bit, scales, meant


def test_fp8_blocks_are_dequantised(tmp_path: Path) -> None:
    ours = build(PLAIN | {"hidden_size": 160, "intermediate_size": 300})
    folder = tmp_path / "model"
    save_hf(ours, folder, dtype=torch.float32)
    meant: dict[str, torch.Tensor] = {}

    def to_fp8(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "_proj" in name]:
            tensors[name], tensors[f"{name}_scale_inv"], meant[name] = quantize(tensors[name])

    rewrite(folder, to_fp8)
    fp8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    reconfigure(folder, quantization_config=fp8)
    views = dict(released_tensors(load_hf(folder)))
    exact = dict(released_tensors(ours))
    assert len(meant) > 20
    for name, view in views.items():
        assert torch.equal(view, meant.get(name, exact[name])), name
        assert (view - exact[name]).norm() <= 0.05 * exact[name].norm()


def test_kimi_k2_names_and_strays_are_accepted(saved: Path) -> None:
    reconfigure(saved, model_type="kimi_k2", architectures=["DeepseekV3ForCausalLM"], auto_map={}, ep_size=1)
    rewrite(saved, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert torch.equal(our_logits(load_hf(saved)), our_logits(build()))


def test_prediction_layers_are_left_aside(saved: Path) -> None:
    reconfigure(saved, num_nextn_predict_layers=1)
    rewrite(saved, lambda t: t.update({"model.layers.3.eh_proj.weight": torch.ones(4, 8)}))
    assert torch.equal(our_logits(load_hf(saved)), our_logits(build()))
    for count in (0, "one"):
        reconfigure(saved, num_nextn_predict_layers=count)
        assert "eh_proj" in (message := refused(saved)) or "num_nextn_predict_layers" in message


YARN_OF_K2: dict[str, Any] = {
    "type": "yarn",
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "beta_fast": 1.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
KIMI_K2: dict[str, Any] = {
    "model_type": "kimi_k2",
    "vocab_size": 163840,
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "first_k_dense_replace": 1,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 384,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 2.827,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 50000.0,
    "rope_scaling": YARN_OF_K2,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "moe_layer_freq": 1,
    "num_nextn_predict_layers": 0,
}


def test_number_of_tensors_of_kimi_k2() -> None:
    """The release has 139 644: ours, a scale for each FP8 matrix, and 61 stray inv_freq."""
    config = config_from_hf(KIMI_K2)
    assert config.yarn == YarnConfig(factor=32, original_max_positions=4096, beta_fast=1, beta_slow=1)
    with torch.device("meta"):
        names = [name for name, _ in released_tensors(Transformer(config))]
    assert len(names) == len(set(names))
    assert len(names) + sum("_proj" in name for name in names) + 61 == 139_644


@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS.keys())
def test_config_survives_the_round_trip(fields: dict[str, Any]) -> None:
    config = ModelConfig(**fields)
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config)))) == config


def test_rope_parameters_of_newer_transformers() -> None:
    newer = {key: value for key, value in KIMI_K2.items() if not key.startswith("rope_")}
    newer["rope_parameters"] = {**YARN_OF_K2, "rope_type": "yarn", "rope_theta": 50000.0}
    assert config_from_hf(newer) == config_from_hf(KIMI_K2)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_type": "llama"}, "model_type 'llama'"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"kv_lora_rank": 0}, "kv_lora_rank: "),
        ({"scoring_func": "softmax"}, "scoring_func must be 'sigmoid', got 'softmax'"),
        ({"norm_topk_prob": False}, "norm_topk_prob"),
        ({"attention_bias": True}, "attention_bias"),
        ({"num_key_value_heads": 8}, "num_key_value_heads"),
        ({"num_experts_per_tok": 400}, "num_experts_per_token must lie in"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "'linear'"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "original_max_position_embeddings is missing"),
        ({"rope_scaling": {**YARN_OF_K2, "attention_factor": 1.5}}, "attention_factor"),
        ({"rope_theta": None}, "rope_theta is missing"),
    ],
)
def test_other_architectures_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refusal:
        config_from_hf(KIMI_K2 | changes)
    assert "\n" not in str(refusal.value)


JSON = st.none() | st.booleans() | st.integers(-9, 2**40) | st.floats() | st.text(max_size=3) | st.lists(st.integers())


@given(
    st.dictionaries(st.sampled_from(sorted(KIMI_K2)), JSON, max_size=2),
    st.dictionaries(st.sampled_from([*YARN_OF_K2, "attention_factor", "truncate", "rope_theta"]), JSON, max_size=2),
)
@settings(max_examples=300)
def test_any_config_is_read_or_refused_in_one_line(changes: dict[str, Any], in_rope: dict[str, Any]) -> None:
    try:
        config_from_hf(KIMI_K2 | {"rope_scaling": YARN_OF_K2 | in_rope} | changes)
        message = "config.json: read"
    except ValueError as refusal:
        message = str(refusal)
    assert message.startswith("config.json: ")
    assert "\n" not in message


def refused(folder: Path) -> str:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - callers check the text
        load_hf(folder)
    message = str(refusal.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused(name: str, saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / name)
    assert name in refused(saved)
    assert name in refused(saved / name)


def test_missing_and_unexpected_tensors_are_named(saved: Path) -> None:
    lost = [f"model.layers.1.mlp.experts.{expert}.up_proj.weight" for expert in range(4)]
    rewrite(saved, lambda t: [t.pop(name) for name in lost])
    message = refused(saved)
    assert all(name in message for name in lost[:3])
    assert "and 1 more" in message
    rewrite(saved, lambda t: t.update({name: torch.ones(24, 48) for name in lost}))
    rewrite(saved, lambda t: t.update({"model.layers.0.self_attn.q_proj.weight": torch.ones(80, 48)}))
    assert "model.layers.0.self_attn.q_proj.weight" in refused(saved)


def test_misshapen_and_integer_tensors_are_named(saved: Path) -> None:
    rewrite(saved, lambda t: t.update({"lm_head.weight": torch.ones(97, 1)}))
    assert "lm_head.weight has shape (97, 1), config.json asks for (97, 48)" in refused(saved)
    rewrite(saved, lambda t: t.update({"lm_head.weight": torch.ones(97, 48, dtype=torch.int8)}))
    assert "lm_head.weight has dtype I8" in refused(saved)


def test_fp8_without_scales_or_with_other_blocks_is_refused(saved: Path) -> None:
    name = "model.layers.0.self_attn.o_proj.weight"
    rewrite(saved, lambda t: t.update({name: t[name].to(torch.float8_e4m3fn)}))
    assert f"lacks {name}_scale_inv" in refused(saved)
    rewrite(saved, lambda t: t.update({f"{name}_scale_inv": torch.ones(2, 2)}))
    assert "scale_inv has shape" in refused(saved)
    reconfigure(saved, quantization_config="fp8")
    assert "quantization_config must be an object" in refused(saved)
    reconfigure(saved, quantization_config={"quant_method": "fp8", "weight_block_size": [64, 64]})
    assert "quantization_config" in refused(saved)


def test_truncated_and_foreign_files_are_named(saved: Path) -> None:
    file = saved / "model.safetensors"
    whole = file.read_bytes()
    for content in (whole[:-10], whole[:100], b"", b"PK\x03\x04 no safetensors here"):
        file.write_bytes(content)
        assert "model.safetensors: not a whole safetensors file" in refused(saved)
    file.unlink()
    assert "holds neither" in refused(saved)


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ({"weight_map": {"a": "model-00001-of-00002.safetensors"}}, "is not there"),
        ({"weight_map": {"a": "../model.safetensors"}}, "no safetensors file of this folder"),
        ({"weight_map": {"a": "model.bin"}}, "no safetensors file of this folder"),
        ({"weights": 3}, "weight_map"),
        ([], "weight_map"),
    ],
)
def test_a_broken_index_is_named(index: object, complaint: str, saved: Path) -> None:
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    assert complaint in refused(saved)


def test_config_must_be_there_and_json(saved: Path) -> None:
    (saved / "config.json").write_text("{")
    assert "config.json: no JSON" in refused(saved)
    (saved / "config.json").unlink()
    assert "config.json: is missing" in refused(saved)


def test_saving_over_a_folder_is_refused(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        save_hf(build(seed=5), saved)
    assert (saved / "model.safetensors").read_bytes() == before


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on file size stands in for the disk: the kernel refuses the write in the same call."""
    model = build()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match=r"safetensors"):
            save_hf(model, tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_loading_needs_the_memory_of_one_model(tmp_path: Path) -> None:
    ours = Transformer(ModelConfig(**PLAIN | {"hidden_size": 512, "moe_intermediate_size": 512, "num_experts": 24}))
    save_hf(ours, tmp_path / "model", max_shard_bytes=10_000_000)
    size = sum(parameter.numel() for parameter in ours.parameters()) * 2
    assert size > 70_000_000
    code = f"""
import resource, torch
from pathlib import Path
from openk2.model.hf import load_hf
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_hf(Path({str(tmp_path / "model")!r}), dtype=torch.bfloat16)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    spent = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert spent < size + 30_000_000
