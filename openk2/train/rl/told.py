"""What a step's rollouts were like, as metrics: in all, by family, and what was dropped why."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

from openk2.schema import Trace
from openk2.train.rl.learnable import Sample
from openk2.train.rl.rollout import Group


def describe(groups: Sequence[Group], samples: Sequence[Sample]) -> dict[str, float]:
    """Means over the rollouts of a step; with ``/family`` behind a name, over that family's.

    ``reward`` is that of rollouts that were not dropped. ``mixed_groups`` is the share of groups that teach. ``dropped/…`` counts
    rollouts, ``dropped/uniform_group`` those that teach nothing, as all of their group earn the same.
    """
    traces = [trace for group in groups for trace in group.finished.values()]
    kept = [trace for trace in traces if "dropped" not in trace.info]
    told = _means(kept) | {"truncated": _mean([float(trace.stop_reason != "done") for trace in kept])}
    told["mixed_groups"] = _mean([float(len(set(group.rewards())) > 1) for group in groups])
    told["staleness"] = _mean([sample.staleness for sample in samples])
    told["max_staleness"] = float(max((sample.staleness for sample in samples), default=0))
    dropped = Counter(f"dropped/{trace.info['dropped']}" for trace in traces if "dropped" in trace.info)
    learnt = {id(sample.trace) for sample in samples}
    dropped["dropped/uniform_group"] = sum(
        id(trace) not in learnt and trace.num_sampled > 0
        for group in groups
        if len(set(group.rewards())) == 1
        for trace in group.finished.values()
        if "dropped" not in trace.info
    )
    told |= {name: float(count) for name, count in sorted(dropped.items()) if count}
    families: dict[str, list[Trace]] = defaultdict(list)
    for trace in kept:
        families[trace.info["family"]].append(trace)
    for family, some in sorted(families.items()):
        told |= {f"{name}/{family}": value for name, value in _means(some).items()}
        told[f"truncated/{family}"] = _mean([float(trace.stop_reason != "done") for trace in some])
        told[f"rollouts/{family}"] = float(len(some))
        told[f"reward_std/{family}"] = statistics.pstdev(trace.info["reward"] for trace in some)
    return {name: value for name, value in told.items() if math.isfinite(value)}


def _means(traces: Sequence[Trace]) -> dict[str, float]:
    return {
        "reward": _mean([trace.info["reward"] for trace in traces]),
        "pass_rate": _mean([float(trace.score is not None and trace.score.passed) for trace in traces]),
        "response_tokens": _mean([trace.num_sampled for trace in traces]),
    }


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan
