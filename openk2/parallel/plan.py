"""Memory on paper: what the states of a training run take on each GPU (K2 §2.4).

The layout is K2's: pipeline stages × expert parallelism × data parallelism with ZeRO-1. Within a stage the experts
are divided over the expert-parallel ranks, and everything else is on all of them, so that the same ranks are data
parallel for attention. Parameters and gradients exist once per model-parallel group; optimizer states are divided
over every rank that would otherwise hold a copy.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from openk2.model.config import ModelConfig
from openk2.model.count import count_parameters

PARAMETER_BYTES = 2  # BF16
GRADIENT_BYTES = 4  # FP32 accumulation buffer
MUON_BYTES = 8  # FP32 master weight and momentum
ADAMW_BYTES = 12  # FP32 master weight and two moments
PAPER_GB_PER_GPU = 30.0  # K2 §2.4, "for all states"
PAPER_GROUP_TB = 6.0  # K2 §2.4, parameters and gradients of a model-parallel group


@dataclass(frozen=True)
class Sizes:
    """Parameter counts: one layer of each kind, and the two ends."""

    num_dense_layers: int
    num_moe_layers: int
    dense_layer: int
    num_experts: int  # of a layer
    moe_layer_experts: int  # routed experts alone
    moe_layer_rest: int  # attention, norms, router, shared experts
    embedding: int
    head: int  # with the last norm

    @property
    def total(self) -> int:
        """All parameters."""
        moe_layer = self.moe_layer_experts + self.moe_layer_rest
        return self.num_dense_layers * self.dense_layer + self.num_moe_layers * moe_layer + self.embedding + self.head


@dataclass(frozen=True)
class Layout:
    """How many ways the run is divided: ``pipeline * expert`` GPUs hold the model once, ``data`` times over."""

    pipeline: int = 16
    expert: int = 16
    data: int = 8

    def __post_init__(self) -> None:
        for name, ways in (("pipeline", self.pipeline), ("expert", self.expert), ("data", self.data)):
            if ways < 1:
                raise ValueError(f"{name} parallelism must be at least 1, got {ways}")

    @property
    def num_gpus(self) -> int:
        """All GPUs of the run."""
        return self.pipeline * self.expert * self.data


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    parameters: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All states; activations come on top."""
        return self.parameters + self.gradients + self.optimizer


@dataclass(frozen=True)
class Plan:
    """Bytes of all states, stage by stage: every GPU of a stage holds the same."""

    sizes: Sizes
    layout: Layout
    stages: tuple[Memory, ...]

    @property
    def fullest(self) -> Memory:
        """The stage that decides whether a run fits."""
        return max(self.stages, key=lambda memory: memory.total)

    @property
    def mean(self) -> Memory:
        """The average over stages."""
        count = len(self.stages)
        return Memory(
            sum(stage.parameters for stage in self.stages) / count,
            sum(stage.gradients for stage in self.stages) / count,
            sum(stage.optimizer for stage in self.stages) / count,
        )


def sizes_of(config: ModelConfig) -> Sizes:
    """The parameter counts of a model, arranged for planning."""
    count = count_parameters(config)
    size = {part.name: part.size for part in count.body}
    layer = size["attention"] + size["norms of a layer"]
    num_moe_layers = sum(config.is_moe(layer) for layer in range(config.num_layers))
    return Sizes(
        num_dense_layers=config.num_layers - num_moe_layers,
        num_moe_layers=num_moe_layers,
        dense_layer=layer + size["dense feed-forward"],
        num_experts=config.num_experts,
        moe_layer_experts=config.num_experts * size["routed expert"],
        moe_layer_rest=layer + size["router"] + config.num_shared_experts * size["shared expert"],
        embedding=count.embedding,
        head=count.head + size["final norm"],
    )


def plan(sizes: Sizes, layout: Layout) -> Plan:
    """Divide a model over a layout. Raises ValueError when the layers or experts cannot be divided so."""
    num_layers = sizes.num_dense_layers + sizes.num_moe_layers
    if layout.pipeline > num_layers:
        raise ValueError(
            f"{layout.pipeline} pipeline stages, but only {num_layers} layers to put in them; lower pipeline"
        )
    if sizes.num_experts % layout.expert:
        raise ValueError(f"{sizes.num_experts} experts do not divide into {layout.expert} expert-parallel ranks")
    stages = []
    first = 0
    for stage, length in enumerate(_stage_lengths(num_layers, layout.pipeline)):
        num_dense = max(0, min(first + length, sizes.num_dense_layers) - first)
        num_moe = length - num_dense
        first += length
        experts = num_moe * sizes.moe_layer_experts / layout.expert
        rest = num_dense * sizes.dense_layer + num_moe * sizes.moe_layer_rest
        ends = sizes.embedding * (stage == 0) + sizes.head * (stage == layout.pipeline - 1)
        stages.append(_memory(experts, rest, ends, layout))
    return Plan(sizes, layout, tuple(stages))


def _stage_lengths(num_layers: int, num_stages: int) -> list[int]:
    """Layers of each stage, as even as can be; the ends, which hold embedding and head, get a left-over layer last."""
    each, left_over = divmod(num_layers, num_stages)
    fuller = [*range(1, num_stages - 1), 0, num_stages - 1][:left_over]
    return [each + (stage in fuller) for stage in range(num_stages)]


def _memory(experts: float, rest: int, ends: int, layout: Layout) -> Memory:
    held = experts + rest + ends
    copies = layout.data * layout.expert  # of what every expert-parallel rank holds
    optimizer = MUON_BYTES * (experts / layout.data + rest / copies) + ADAMW_BYTES * ends / copies
    return Memory(PARAMETER_BYTES * held, GRADIENT_BYTES * held, optimizer)


def table(plan: Plan, title: str) -> Table:
    """The plan to look at, in GB (10⁹ bytes), with the paper's figures beside it."""
    layout = plan.layout
    ways = f"{layout.pipeline} pipeline × {layout.expert} expert × {layout.data} data = {layout.num_gpus} GPUs"
    out = Table(title=f"{title}: states on each GPU, {ways}", title_justify="left")
    out.add_column("state")
    for column in ("mean stage, GB", "fullest stage, GB"):
        out.add_column(column, justify="right")
    out.add_column("how")
    group = layout.pipeline * layout.expert
    rows = (
        ("parameters", "parameters", f"BF16, once in {group} GPUs; attention on all {layout.expert} of a stage"),
        ("gradients", "gradients", "FP32 accumulation buffer, likewise"),
        ("optimizer", "optimizer", "FP32 master and momentum (AdamW: two moments), ZeRO-1"),
        ("all states", "total", f"activations come on top; K2 at its size reports ≈ {PAPER_GB_PER_GPU:.0f} (K2 §2.4)"),
    )
    for name, field, how in rows:
        out.add_row(name, f"{getattr(plan.mean, field) / 1e9:.1f}", f"{getattr(plan.fullest, field) / 1e9:.1f}", how)
    once = plan.sizes.total * (PARAMETER_BYTES + GRADIENT_BYTES) / 1e12
    out.caption = (
        f"{plan.sizes.total:,} parameters; parameters and gradients, each counted once: {once:.2f} TB "
        f"(K2 reports ≈ {PAPER_GROUP_TB:.0f} TB in 256 GPUs)"
    )
    return out
