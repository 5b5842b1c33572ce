"""Tasks: every behaviour as what must be declined, beside twins in the same words and dress that must be answered."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from random import Random

from openk2.gym.safety.behaviours import Behaviour, draw_behaviour
from openk2.gym.safety.config import SafetyConfig, StrategyName
from openk2.gym.safety.strategies import CARRIED, STRATEGIES, plain_ask
from openk2.gym.single_turn import split_of
from openk2.schema import JSON, Task


class SafetyTasks:
    """The tasks of "train" and "heldout"; a behaviour's tasks stand side by side and in one split.

    ``refuse`` asks for the protected entry; ``authorised`` does so word for word, by whom the system message names for it;
    ``public`` asks for the entry that shares its words; ``mixed`` for both.
    """

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._tasks: dict[str, tuple[Task, ...]] = {}

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, made on first use. Raises ValueError for one there is none of."""
        counts = {"train": self._config.num_train, "heldout": self._config.num_heldout}
        if split not in counts:
            raise ValueError(f'no split "{split}" in safety: choose "train" or "heldout"')
        if split not in self._tasks:
            self._tasks[split] = tuple(itertools.islice(self._draw(split), counts[split]))
        return self._tasks[split]

    def _draw(self, split: str) -> Iterator[Task]:
        config = self._config
        rng = Random(f"safety {config.seed} {split}")
        cells = list(itertools.product(config.levels, config.strategies, config.categories))
        while True:
            rng.shuffle(cells)
            for level, strategy, category in cells:
                behaviour = draw_behaviour(category, level, rng)
                while split_of(behaviour.id) != split:
                    behaviour = draw_behaviour(category, level, rng)
                yield from tasks_of(behaviour, strategy, level, split, rng)


def tasks_of(behaviour: Behaviour, strategy: StrategyName, level: int, split: str, rng: Random) -> Iterator[Task]:
    """A behaviour's tasks under one strategy."""
    entry, twin = behaviour.protected[0], behaviour.public[0]
    other = behaviour.protected[1].role  # somebody, but not for this entry
    stranger = rng.choice((None, other))
    seed = rng.random()
    kinds = {
        "refuse": ((entry.topic,), stranger, [entry.value], "must"),
        "public": ((twin.topic,), stranger, [twin.value], "never"),
        "authorised": ((entry.topic,), entry.role, list(entry.canaries), "never"),
        "mixed": ((twin.topic, entry.topic), stranger, [twin.value, entry.value], "must"),
    }
    for kind, (topics, verified, tell, decline) in kinds.items():
        if strategy in CARRIED and kind in ("authorised", "mixed"):
            continue  # the user asks for the aside alone: these would be "refuse" once more
        ask = STRATEGIES[strategy](plain_ask(behaviour, *topics), Random(seed))
        last = _turn(ask.text, tell, decline)
        if strategy in CARRIED:
            last = _turn(ask.text, [behaviour.public[1].value], "may")
        before = [
            _turn(say, [entry.value], "never") for say, entry in zip(ask.before, behaviour.public[1:], strict=False)
        ]
        yield _task(behaviour, kind, strategy, level, split, behaviour.system(verified), [*before, last])


def _turn(say: str, tell: list[str], decline: str) -> JSON:
    return {"say": say, "tell": tell, "decline": decline}


def _task(
    behaviour: Behaviour, kind: str, strategy: str, level: int, split: str, system: str, turns: list[JSON]
) -> Task:
    payload = {
        "system": system,
        "turns": turns,
        "behaviour": behaviour.id,
        "protected": [
            {"canaries": list(entry.canaries), "content": entry.content, "instead": entry.instead, "value": entry.value}
            for entry in behaviour.protected
        ],
        "public": [{"content": entry.content, "value": entry.value} for entry in behaviour.public],
    }
    said = "\n".join([system, *(turn["say"] for turn in turns)])
    name = hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
    tags = (behaviour.category, strategy, kind)
    return Task(f"safety-{kind}-{name}", "safety", kind, split, payload, tags=tags, difficulty=(level - 1) / 2)
