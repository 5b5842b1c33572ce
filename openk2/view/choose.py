"""Choose the episodes a reader should see: progress, success and failure, of many kinds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from openk2.view.run import Episode

PROGRESS = ("base", "sft", "rl")


@dataclass(frozen=True, slots=True)
class Example:
    """One task worth reading: what happened, and its episodes from earlier to later stage."""

    task_set: str
    verdict: str
    episodes: tuple[Episode, ...]


def choose(episodes: dict[str, dict[str, dict[str, Episode]]], count: int = 12) -> list[Example]:
    """About ``count`` tasks, spread evenly over the sets, then over what happened, then over kinds.

    A task solved only by the last stage, or only by the one before it, is shown with both episodes.
    """
    chosen: list[Example] = []
    for task_set, tasks in episodes.items():
        piles = _piles(task_set, tasks)
        seen: Counter[str] = Counter()
        for i in range(count // len(episodes)):
            if not any(piles):
                break
            pile = next(p for j in range(len(piles)) if (p := piles[(i + j) % len(piles)]))
            example = min(pile, key=lambda example: seen[example.episodes[-1].kind])
            pile.remove(example)
            seen[example.episodes[-1].kind] += 1
            chosen.append(example)
    return chosen


def _piles(task_set: str, tasks: dict[str, dict[str, Episode]]) -> list[list[Example]]:
    """The examples of a set by what happened: newly solved, solved, failed, lost."""
    stages = [stage for stage in PROGRESS if any(stage in played for played in tasks.values())]
    gained: list[Example] = []
    solved: list[Example] = []
    failed: list[Example] = []
    lost: list[Example] = []
    for played in tasks.values():
        both = tuple(played[stage] for stage in stages[-2:] if stage in played)
        if not both:
            continue
        before, after = both[0].passed, both[-1].passed
        if before and after:
            solved.append(Example(task_set, "solved", both[-1:]))
        elif after:
            gained.append(Example(task_set, "newly solved", both))
        elif before:
            lost.append(Example(task_set, "lost", both))
        else:
            failed.append(Example(task_set, "not solved", both[-1:]))
    return [gained, solved, failed, lost]
