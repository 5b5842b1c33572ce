"""How good a critic is, on pairs whose verdict is known: accuracy, calibration, contradictions, by flaw."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from openk2.gym.critic.judge import in_time
from openk2.gym.critic.pairwise import Comparison, PairwiseCritic
from openk2.gym.critic.preferences import Pair
from openk2.schema import JSON

NUM_BINS = 10  # of confidence from 1/2 to 1


@dataclass(frozen=True, slots=True)
class CriticMeasure:
    """Over ``num_pairs``, of which ``num_decided`` have a better one.

    Of the decided: ``accuracy`` (no preference counts one half) and ``undecided``, the share where the critic had none. Of those where
    it had one: ``confidence`` (mean probability given to the preferred), ``overconfidence`` (that less how often it was right) and
    ``calibration_error`` (the expected one, ECE). Of the ties: ``tie_distance``, how far from one half the critic was, 0 to 1/2. Of
    all: shares of ``contradictions`` between the orders and of ``unreadable`` verdicts. ``by_reason``: accuracy by flaw, and for
    ties the share that was called one in both orders.
    """

    num_pairs: int
    num_decided: int
    accuracy: float
    undecided: float
    confidence: float
    overconfidence: float
    calibration_error: float
    tie_distance: float
    contradictions: float
    unreadable: float
    by_reason: dict[str, float]

    def to_json(self) -> JSON:
        """Plain JSON."""
        return asdict(self)


async def measure_critic(critic: PairwiseCritic, pairs: Sequence[Pair], seconds: float) -> CriticMeasure:
    """Have it compare the pairs, all at once. Raises JudgeFailedError when that takes longer or the model fails."""
    if not pairs:
        raise ValueError("a critic is measured on pairs, and there are none")
    async with in_time(seconds), asyncio.TaskGroup() as group:
        asked = [group.create_task(critic.compare(p.question, p.rubrics, p.first, p.second)) for p in pairs]
    return summary(pairs, [each.result() for each in asked])


def summary(pairs: Sequence[Pair], found: Sequence[Comparison]) -> CriticMeasure:
    """What comparisons of these pairs, in order, amount to."""
    found_right: list[float] = []
    stated: list[tuple[float, float]] = []  # confidence, and whether it was right
    distances: list[float] = []
    by_reason: dict[str, list[float]] = defaultdict(list)
    for pair, comparison in zip(pairs, found, strict=True):
        if pair.better == "tie":
            distances.append(abs(comparison.better - 0.5))
            by_reason[pair.why].append(float(comparison.better == 0.5 and not comparison.contradiction))
        else:
            value = comparison.better if pair.better == "first" else 1 - comparison.better
            right = 0.5 if value == 0.5 else float(value > 0.5)
            found_right.append(right)
            if value != 0.5:
                stated.append((max(value, 1 - value), right))
            by_reason[pair.why].append(right)
    confidence = _mean([confidence for confidence, _ in stated])
    return CriticMeasure(
        num_pairs=len(pairs),
        num_decided=len(found_right),
        accuracy=_mean(found_right),
        undecided=1 - len(stated) / max(len(found_right), 1),
        confidence=confidence,
        overconfidence=confidence - _mean([right for _, right in stated]),
        calibration_error=_calibration_error(stated),
        tie_distance=_mean(distances),
        contradictions=_mean([float(each.contradiction) for each in found]),
        unreadable=_mean([each.unreadable / 2 for each in found]),
        by_reason={why: _mean(values) for why, values in sorted(by_reason.items())},
    )


def _calibration_error(stated: Sequence[tuple[float, float]]) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighed by their size."""
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for confidence, right in stated:
        bins[min(int((confidence - 0.5) * 2 * NUM_BINS), NUM_BINS - 1)].append((confidence, right))
    gaps = (abs(sum(confidence - right for confidence, right in each)) for each in bins.values())
    return sum(gaps) / max(len(stated), 1)


def _mean(values: Sequence[float]) -> float:
    """0 for none."""
    return sum(values) / len(values) if values else 0.0
