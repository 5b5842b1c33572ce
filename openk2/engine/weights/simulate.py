"""The time of an update on paper: a model's bytes over the links of a cluster, in both forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.table import Table

from openk2.model.config import ModelConfig
from openk2.model.count import count_parameters

PAPER_SECONDS = 30.0
# Moonshot's checkpoint-engine, K2 in FP8 on 256 H20.
PUBLISHED_SECONDS = 16.04


@dataclass(frozen=True, slots=True)
class Cluster:
    """Ranks and links; rates in bytes a second, in one direction. The defaults are K2's nodes (K2 §2.4)."""

    ranks: int = 256
    ranks_per_node: int = 8
    ranks_per_replica: int = 16
    pcie: float = 55e9  # host to device, a rank: PCIe 5 × 16
    nvlink: float = 200e9  # a rank: H800, 400 GB/s both ways
    network: float = 8 * 50e9  # a node: 8 × 400 Gb/s
    memory: float = 1.3e12  # a copy inside a GPU: half of what it reads and writes
    bucket_bytes: float = 2**30

    def __post_init__(self) -> None:
        if self.ranks % self.ranks_per_node or self.ranks < self.ranks_per_replica:
            raise ValueError(
                f"{self.ranks} ranks are no whole number of nodes of {self.ranks_per_node}, "
                f"or fewer than a replica's {self.ranks_per_replica}"
            )


@dataclass(frozen=True, slots=True)
class Seconds:
    """An update: each stage alone, and both forms in whole."""

    copy: float
    broadcast: float
    reload: float
    pipeline: float
    two_stage: float


def simulate(nbytes: float, cluster: Cluster) -> Seconds:
    """The time of an update of ``nbytes``, at full speed of every link.

    With S bytes, B of a bucket, N = S / B buckets, R ranks, r ranks a replica, per bucket:

        copy      c = B / pcie
        broadcast b = B / min(nvlink, network of a node)      (network only with several nodes)
        reload    l = B / r / memory                          (a rank keeps its share)

    Stages alone: ⌈N / R⌉ · c with all ranks copying at once; N · b; N · l.
    Pipeline: the slowest stage alone, and a bucket's way through the two others: sources copy ahead, all at once.
    Two-stage: ⌈N / R⌉ waves of one copy c by all ranks, then N · max(b, l), with a last reload in each wave.

    Left out: start-up of the group, votes, post-processing of the weights (quantisation, transposes), and that a
    copy and the network share a GPU's PCIe link, which slows the pipeline and is why K2 uses the two-stage form.
    """
    c = cluster
    buckets = math.ceil(nbytes / c.bucket_bytes)
    waves = math.ceil(buckets / c.ranks)
    link = c.nvlink if c.ranks == c.ranks_per_node else min(c.nvlink, c.network)
    copy, broadcast = c.bucket_bytes / c.pcie, c.bucket_bytes / link
    reload = c.bucket_bytes / c.ranks_per_replica / c.memory
    stages = (waves * copy, buckets * broadcast, buckets * reload)
    slowest = max(range(3), key=lambda stage: stages[stage])
    fill = sum(once for stage, once in enumerate((copy, broadcast, reload)) if stage != slowest)
    return Seconds(
        copy=stages[0],
        broadcast=stages[1],
        reload=stages[2],
        pipeline=stages[slowest] + fill,
        two_stage=waves * (copy + reload) + buckets * max(broadcast, reload),
    )


def simulated_table(config: ModelConfig, title: str, clusters: dict[str, Cluster] | None = None) -> Table:
    """Stages and totals for BF16 and FP8 weights, beside what the paper and its engine report."""
    total = count_parameters(config).total_with_bias
    table = Table(title=f"{title}: one update of {total:,} parameters on paper, seconds", title_justify="left")
    for column in ("cluster", "weights"):
        table.add_column(column)
    for column in ("TB", "copy", "broadcast", "reload", "pipeline", "two-stage"):
        table.add_column(column, justify="right")
    for name, cluster in (clusters or CLUSTERS).items():
        for kind, width in (("BF16", 2), ("FP8", 1)):
            times = simulate(total * width, cluster)
            stages = (times.copy, times.broadcast, times.reload, times.pipeline, times.two_stage)
            table.add_row(name, kind, f"{total * width / 1e12:.2f}", *(f"{seconds:.2f}" for seconds in stages))
    table.caption = (
        f"Links at full speed: a floor, no forecast. K2 reports < {PAPER_SECONDS:.0f} s (K2 §3.3), its checkpoint-engine "
        f"{PUBLISHED_SECONDS} s for K2 in FP8 on 256 H20. FP8 counts one byte a parameter, without block scales."
    )
    return table


CLUSTERS = {
    "256 H800, 3.2 Tb/s a node": Cluster(),
    "the same, 400 Gb/s a node": Cluster(network=50e9),
}
