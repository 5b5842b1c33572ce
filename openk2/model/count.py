"""How many parameters a model has, how many a token uses, and what a token costs (K2 §2.3). Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import Group
from rich.table import Table

from openk2.model.config import ModelConfig

Active = Literal["body", "with head", "with head and embedding"]
Formula = Literal["paper", "real widths", "causal average", "absorbed"]

ACTIVE: tuple[Active, ...] = ("body", "with head", "with head and embedding")
FORMULAS: dict[Formula, str] = {
    "paper": "queries and values as wide as published, RoPE and causality ignored",
    "real widths": "queries with their RoPE part",
    "causal average": "real widths, a token sees half the context on average",
    "absorbed": "decoding on the latent cache: scores and sums at latent width",
}

# What the papers say, and what doubling K2's heads costs at 128k context by K2 §2.3.
PUBLISHED = {
    "kimi-k2": {"total": "1.04T", "active": "32.6B", "more FLOPs": "+83 %"},
    "deepseek-v3": {"total": "671B", "active": "37B"},
}
# "128k" is read both ways.
LONG_CONTEXTS = (128_000, 131_072)


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of building block: the parameters of one, how many exist, how many a token passes through."""

    name: str
    size: int
    stored: int
    used: int


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Exact parameter counts of one model.

    The router's balance bias is no trained parameter, so totals come with and without it;
    every token reads it, so it is active.
    """

    body: tuple[Part, ...]
    embedding: int
    head: int
    router_bias: int

    @property
    def total(self) -> int:
        """All parameters, without the router's balance bias."""
        return sum(part.size * part.stored for part in self.body) + self.embedding + self.head

    @property
    def total_with_bias(self) -> int:
        """All parameters and the router's balance bias: every number a checkpoint holds."""
        return self.total + self.router_bias

    def active(self, convention: Active) -> int:
        """Parameters one token passes through; papers differ in counting the head and the embedding."""
        body = sum(part.size * part.used for part in self.body) + self.router_bias
        match convention:
            case "body":
                return body
            case "with head":
                return body + self.head
            case "with head and embedding":
                return body + self.head + self.embedding


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count from the shape alone, without building the model."""
    c = config
    layers = c.num_layers
    moe_layers = sum(c.is_moe(layer) for layer in range(layers))
    dense_layers = layers - moe_layers
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    body = (
        Part("attention", _attention(c), layers, layers),
        Part("dense feed-forward", 3 * c.hidden_size * c.intermediate_size, dense_layers, dense_layers),
        Part("routed expert", expert, c.num_experts * moe_layers, c.num_experts_per_token * moe_layers),
        Part("shared expert", expert, c.num_shared_experts * moe_layers, c.num_shared_experts * moe_layers),
        Part("router", c.num_experts * c.hidden_size, moe_layers, moe_layers),
        Part("norms of a layer", 2 * c.hidden_size, layers, layers),
        Part("final norm", c.hidden_size, 1, 1),
    )
    embedding = c.vocab_size * c.hidden_size
    return ParameterCount(body, embedding=embedding, head=embedding, router_bias=c.num_experts * moe_layers)


def _attention(c: ModelConfig) -> int:
    """Latent attention of one layer, its two latent norms included."""
    if c.q_lora_rank is None:
        queries = c.hidden_size * c.num_heads * c.qk_head_dim
    else:
        queries = c.hidden_size * c.q_lora_rank + c.q_lora_rank + c.q_lora_rank * c.num_heads * c.qk_head_dim
    latent = c.hidden_size * (c.kv_lora_rank + c.qk_rope_head_dim) + c.kv_lora_rank
    keys_values = c.kv_lora_rank * c.num_heads * (c.qk_nope_head_dim + c.v_head_dim)
    return queries + latent + keys_values + c.num_heads * c.v_head_dim * c.hidden_size


def flops_per_token(
    config: ModelConfig, context: int, formula: Formula, active: Active = "with head and embedding"
) -> int:
    """Forward FLOPs of one token at the end of ``context`` tokens: 2 · active + attention (K2 §2.3).

    ``formula`` says how the attention scores and sums are counted, see ``FORMULAS``.
    """
    c = config
    match formula:
        case "paper":
            width = c.qk_nope_head_dim + c.v_head_dim
        case "real widths" | "causal average":
            width = c.qk_head_dim + c.v_head_dim
        case "absorbed":
            width = (c.kv_lora_rank + c.qk_rope_head_dim) + c.kv_lora_rank
    attention = 2 * c.num_layers * c.num_heads * context * width
    if formula == "causal average":
        attention //= 2
    return 2 * count_parameters(c).active(active) + attention


def with_doubled_heads(config: ModelConfig) -> ModelConfig:
    """The same model with twice the attention heads: the comparison of K2 §2.3."""
    return config.model_copy(update={"num_heads": 2 * config.num_heads})


def count_table(config: ModelConfig, name: str) -> Group:
    """Printable counts and costs. A published ``name`` ("kimi-k2", "deepseek-v3") shows the paper's figures beside."""
    return Group(_parameters_table(config, name), _flops_table(config, name))


def _parameters_table(config: ModelConfig, name: str) -> Table:
    count = count_parameters(config)
    published = PUBLISHED.get(name, {})
    table = Table(title=f"{name}: parameters", title_justify="left")
    table.add_column("part")
    for column in ("of one", "stored", "a token uses", "sum", "paper"):
        table.add_column(column, justify="right")
    for part in (
        *count.body,
        Part("embedding", count.embedding, 1, 1),
        Part("head", count.head, 1, 1),
    ):
        if part.stored:
            stored = part.size * part.stored
            table.add_row(part.name, f"{part.size:,}", f"{part.stored:,}", f"{part.used:,}", f"{stored:,}")
    table.add_section()
    table.add_row("total", "", "", "", f"{count.total:,}", published.get("total", ""))
    table.add_row("total with the router's bias", "", "", "", f"{count.total_with_bias:,}")
    for convention in ACTIVE:
        figure = published.get("active", "") if convention == ACTIVE[-1] else ""
        table.add_row(f"active, {convention}", "", "", "", f"{count.active(convention):,}", figure)
    return table


def _flops_table(config: ModelConfig, name: str) -> Table:
    contexts = LONG_CONTEXTS if config.max_positions >= LONG_CONTEXTS[0] else (config.max_positions,)
    doubled = with_doubled_heads(config)
    caption = "\n".join(f"{formula}: {meaning}" for formula, meaning in FORMULAS.items())
    table = Table(title=f"{name}: GFLOPs of a token", title_justify="left", caption=caption, caption_justify="left")
    for column in ("attention counted as", "active", "context"):
        table.add_column(column)
    for column in (f"{config.num_heads} heads", f"{doubled.num_heads} heads", "more", "paper"):
        table.add_column(column, justify="right")
    for formula in FORMULAS:
        figure = PUBLISHED.get(name, {}).get("more FLOPs", "") if formula == "paper" else ""
        for active in ACTIVE[1:]:
            for context in contexts:
                few, many = (flops_per_token(shape, context, formula, active) for shape in (config, doubled))
                more = f"+{100 * (many / few - 1):.1f} %"
                table.add_row(formula, active, f"{context:,}", f"{few / 1e9:,.1f}", f"{many / 1e9:,.1f}", more, figure)
    return table
