"""The shape of a model. Torch-free, so that plans and counts need no tensors."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

COPYING_PAIRS = 4  # rotary pairs by which the copying start tells the tokens one and two back from all others


class YarnConfig(BaseModel):
    """YaRN context extension (arXiv 2309.00071), with the names of the released configs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: float = Field(gt=1.0, description="how many times longer the context becomes")
    original_max_positions: PositiveInt = Field(description="context length before the extension")
    beta_fast: float = Field(default=32.0, description="rotations above which a frequency is left alone")
    beta_slow: float = Field(default=1.0, description="rotations below which a frequency is fully interpolated")
    mscale: float = Field(default=1.0, description="numerator of the cos/sin magnitude")
    mscale_all_dim: float = Field(default=1.0, description="denominator of it, and the softmax-scale correction")


class ModelConfig(BaseModel):
    """A DeepSeek-V3 / Kimi-K2 shaped transformer (K2 §2.3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: PositiveInt = Field(description="token ids, special ones included")
    hidden_size: PositiveInt = Field(description="width of the residual stream")
    num_layers: PositiveInt = Field(description="transformer layers")
    num_dense_layers: int = Field(default=1, ge=0, description="leading layers with a dense FFN")
    intermediate_size: PositiveInt = Field(description="width of the dense FFN")
    moe_intermediate_size: PositiveInt = Field(description="width of one expert")
    num_heads: PositiveInt = Field(description="attention heads")
    q_lora_rank: PositiveInt | None = Field(default=None, description="query latent; None projects queries directly")
    kv_lora_rank: PositiveInt = Field(description="key-value latent, what the cache holds")
    qk_nope_head_dim: PositiveInt = Field(description="query/key width without position")
    qk_rope_head_dim: PositiveInt = Field(description="query/key width with RoPE; the key part is shared by heads")
    v_head_dim: PositiveInt = Field(description="value width of a head")
    num_experts: int = Field(default=0, ge=0, description="routed experts of a layer; 0 makes every layer dense")
    num_experts_per_token: int = Field(default=0, ge=0, description="experts a token visits")
    num_shared_experts: int = Field(default=1, ge=0, description="experts every token visits")
    num_expert_groups: PositiveInt = Field(default=1, description="groups the experts are divided in for routing")
    num_groups_per_token: PositiveInt = Field(default=1, description="groups a token may choose experts from")
    routed_scaling_factor: float = Field(default=1.0, gt=0, description="factor on the routed experts' sum")
    max_positions: PositiveInt = Field(default=4096, description="longest context")
    rope_theta: float = Field(default=50_000.0, gt=0, description="RoPE base")
    yarn: YarnConfig | None = Field(default=None, description="context extension; None for plain RoPE")
    rms_norm_eps: float = Field(default=1e-6, gt=0, description="ε of the residual-stream norms")
    init_std: float = Field(default=0.02, gt=0, description="standard deviation of initial weights")
    embedding_std: float | None = Field(default=None, gt=0, description="the same for embeddings; None means init_std")

    start: Literal["normal", "copying"] = Field(
        default="normal", description="initial weights: drawn, or with an induction circuit for tiny models"
    )

    @property
    def qk_head_dim(self) -> int:
        """Width of a query or key of one head."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def is_moe(self, layer: int) -> bool:
        """True when layer number ``layer`` routes tokens to experts."""
        return self.num_experts > 0 and layer >= self.num_dense_layers

    @model_validator(mode="after")
    def _start_fits(self) -> Self:
        """The circuit of ``copying_start``: half of the heads read a token, two more parts of its width are what stood before."""
        if self.start != "copying":
            return self
        if self.num_layers < 2 or self.q_lora_rank is not None or self.qk_nope_head_dim != self.v_head_dim:
            raise ValueError(
                'start = "copying" wants two layers, no q_lora_rank, and qk_nope_head_dim equal to v_head_dim'
            )
        if self.num_heads % 2 or self.qk_rope_head_dim < 2 * COPYING_PAIRS:
            raise ValueError(
                f'start = "copying" wants an even number of heads and qk_rope_head_dim ≥ {2 * COPYING_PAIRS}'
            )
        least = (self.num_heads // 2 + 2) * self.v_head_dim
        if min(self.kv_lora_rank, self.hidden_size) < least:
            raise ValueError(
                f'start = "copying" wants kv_lora_rank and hidden_size of at least {least} '
                f"(num_heads / 2 + 2 times v_head_dim), got {self.kv_lora_rank} and {self.hidden_size}"
            )
        return self

    @model_validator(mode="after")
    def _shapes_are_possible(self) -> Self:
        if self.qk_rope_head_dim % 2:
            raise ValueError(f"qk_rope_head_dim must be even (RoPE turns pairs), got {self.qk_rope_head_dim}")
        if self.num_dense_layers > self.num_layers:
            raise ValueError(f"num_dense_layers {self.num_dense_layers} exceeds num_layers {self.num_layers}")
        if self.num_experts:
            if not 1 <= self.num_experts_per_token <= self.num_experts:
                raise ValueError(
                    f"num_experts_per_token must lie in 1..num_experts ({self.num_experts}), "
                    f"got {self.num_experts_per_token}"
                )
            if self.num_experts % self.num_expert_groups:
                raise ValueError(f"num_experts {self.num_experts} is no multiple of {self.num_expert_groups} groups")
            if self.num_experts // self.num_expert_groups < 2 <= self.num_expert_groups:
                raise ValueError(
                    f"a group is scored by its two best experts: {self.num_expert_groups} groups are too many"
                )
            if self.num_groups_per_token > self.num_expert_groups:
                raise ValueError(
                    f"num_groups_per_token {self.num_groups_per_token} exceeds num_expert_groups {self.num_expert_groups}"
                )
            reachable = self.num_experts // self.num_expert_groups * self.num_groups_per_token
            if self.num_experts_per_token > reachable:
                raise ValueError(
                    f"num_experts_per_token {self.num_experts_per_token} exceeds the {reachable} experts "
                    f"in {self.num_groups_per_token} groups"
                )
        if self.yarn and self.yarn.original_max_positions > self.max_positions:
            raise ValueError(
                f"yarn.original_max_positions {self.yarn.original_max_positions} exceeds max_positions {self.max_positions}"
            )
        return self
