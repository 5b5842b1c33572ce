from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from openk2.model.config import ModelConfig
from openk2.model.count import Active, Formula, count_parameters, count_table, flops_per_token, with_doubled_heads
from openk2.model.transformer import Transformer

KIMI_K2 = ModelConfig(
    vocab_size=163_840,
    hidden_size=7168,
    num_layers=61,
    num_dense_layers=1,
    intermediate_size=18_432,
    moe_intermediate_size=2048,
    num_heads=64,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    num_experts=384,
    num_experts_per_token=8,
    num_shared_experts=1,
    routed_scaling_factor=2.827,
    max_positions=131_072,
)
DEEPSEEK_V3 = KIMI_K2.model_copy(
    update={"vocab_size": 129_280, "num_dense_layers": 3, "num_heads": 128, "num_experts": 256}
)


@st.composite
def small_configs(draw: st.DrawFn) -> ModelConfig:
    layers = draw(st.integers(1, 4))
    experts = draw(st.sampled_from([0, 2, 4, 6]))
    return ModelConfig(
        vocab_size=draw(st.integers(2, 40)),
        hidden_size=draw(st.integers(1, 24)),
        num_layers=layers,
        num_dense_layers=draw(st.integers(0, layers)),
        intermediate_size=draw(st.integers(1, 24)),
        moe_intermediate_size=draw(st.integers(1, 12)),
        num_heads=draw(st.integers(1, 4)),
        q_lora_rank=draw(st.none() | st.integers(1, 12)),
        kv_lora_rank=draw(st.integers(1, 12)),
        qk_nope_head_dim=draw(st.integers(1, 8)),
        qk_rope_head_dim=2 * draw(st.integers(1, 4)),
        v_head_dim=draw(st.integers(1, 8)),
        num_experts=experts,
        num_experts_per_token=draw(st.integers(1, experts)) if experts else 0,
        num_shared_experts=draw(st.integers(0, 2)),
    )


def numbers_in(config: ModelConfig) -> tuple[int, int]:
    """Parameters and checkpoint numbers of the real model, counted tensor by tensor."""
    with torch.device("meta"):
        model = Transformer(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, sum(tensor.numel() for tensor in model.state_dict().values())


@given(small_configs())
@settings(max_examples=40)
def test_count_equals_the_real_model(config: ModelConfig) -> None:
    count = count_parameters(config)
    assert (count.total, count.total_with_bias) == numbers_in(config)


@pytest.mark.parametrize(
    ("config", "total", "with_bias"),
    [
        (KIMI_K2, 1_026_408_209_408, 1_026_408_232_448),
        (DEEPSEEK_V3, 671_026_404_352, 671_026_419_200),
    ],
)
def test_totals_of_the_published_models(config: ModelConfig, total: int, with_bias: int) -> None:
    count = count_parameters(config)
    assert (count.total, count.total_with_bias) == (total, with_bias)
    assert numbers_in(config) == (total, with_bias)


def test_parts_of_the_published_models() -> None:
    sizes = {part.name: part.size for part in count_parameters(KIMI_K2).body}
    assert sizes["attention"] == 101_124_096
    assert sizes["routed expert"] == sizes["shared expert"] == 44_040_192
    assert sizes["dense feed-forward"] == 396_361_728
    assert {part.name: part.size for part in count_parameters(DEEPSEEK_V3).body}["attention"] == 187_107_328


@pytest.mark.parametrize(
    ("config", "billions"), [(KIMI_K2, (30.513, 31.687, 32.862)), (DEEPSEEK_V3, (35.699, 36.626, 37.552))]
)
def test_active_parameters_by_each_convention(config: ModelConfig, billions: tuple[float, ...]) -> None:
    count = count_parameters(config)
    conventions: tuple[Active, ...] = ("body", "with head", "with head and embedding")
    assert tuple(round(count.active(convention) / 1e9, 3) for convention in conventions) == billions


@pytest.mark.parametrize(
    ("formula", "active", "context", "ratio"),
    [
        ("paper", "with head and embedding", 128_000, 1.828),
        ("paper", "with head", 128_000, 1.834),
        ("paper", "with head and embedding", 131_072, 1.831),
        ("paper", "with head", 131_072, 1.837),
        ("real widths", "with head and embedding", 128_000, 1.86),
        ("causal average", "with head and embedding", 128_000, 1.76),
        ("absorbed", "with head and embedding", 128_000, 1.95),
    ],
)
def test_doubled_heads_cost_what_the_paper_says(formula: Formula, active: Active, context: int, ratio: float) -> None:
    few, many = (flops_per_token(config, context, formula, active) for config in (KIMI_K2, with_doubled_heads(KIMI_K2)))
    assert round(many / few, len(str(ratio)) - 2) == ratio


def test_table_shows_the_paper_beside_the_sums() -> None:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(count_table(KIMI_K2, "kimi-k2"))
    text = console.export_text()
    for shown in ("1,026,408,209,408", "1,026,408,232,448", "1.04T", "32.6B", "+83 %", "+82.8 %", "128 heads"):
        assert shown in text


def test_counting_needs_no_torch() -> None:
    code = "import sys, openk2.model.count; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
