"""Read a run folder: whatever of it is there. Traces are indexed, not kept: a run may hold thousands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.schema import JSON, Trace

TRAINING = {
    "pretrain": "Pre-training",
    "sft": "Supervised fine-tuning",
    "sft_control": "Control",
    "rl": "Reinforcement learning",
}
"""Stages that train, in order, with their titles."""
EVALUATED = {"base": "Base", "sft": "SFT", "sft_control": "Control", "rl": "RL"}
"""Stages that are evaluated, in order, with their short titles."""
SETS = {
    "demonstrated": ("Demonstrated", "kinds of task that the demonstrations show, with new entities and values"),
    "undemonstrated": ("Undemonstrated", "kinds without a demonstration: what reinforcement learning is for"),
    "unseen_domain": ("Unseen domain", "tools and tasks of a domain that no stage of training met"),
}
"""Sets of held-out tasks with a title and what they hold."""


@dataclass(frozen=True, slots=True)
class Episode:
    """Where one evaluated trace lies, and what is known of it without reading it whole."""

    task_id: str
    stage: str
    kind: str
    passed: bool
    path: Path
    offset: int

    def trace(self) -> Trace:
        """The whole trace, read from its file."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return Trace.from_json(json.loads(file.readline()))


@dataclass(frozen=True, slots=True)
class Run:
    """What a run folder holds. Absent parts are empty."""

    name: str
    recipe_text: str
    summary: JSON
    metrics: dict[str, list[JSON]]
    funnel: JSON
    episodes: dict[str, dict[str, dict[str, Episode]]]
    """Pass@1 episodes by set, task id and stage."""


def read_run(run_dir: Path) -> Run:
    """Read ``run_dir``. Raises ValueError when it is no run folder, or naming a file that cannot be read."""
    if not (run_dir / "recipe.toml").is_file():
        raise ValueError(f"{run_dir} is not a run folder: it has no recipe.toml")
    recipe_text = (run_dir / "recipe.toml").read_text(encoding="utf-8")
    try:
        tomllib.loads(recipe_text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{run_dir / 'recipe.toml'}: {error}") from None
    return Run(
        name=run_dir.resolve().name,
        recipe_text=recipe_text,
        summary=_read_json(run_dir / "summary.json"),
        metrics={stage: steps for stage in TRAINING if (steps := _read_metrics(run_dir / stage / "metrics.jsonl"))},
        funnel=_read_json(run_dir / "worlds" / "funnel.json"),
        episodes=_index_episodes(run_dir / "eval"),
    )


def _read_json(path: Path) -> JSON:
    if not path.exists():
        return {}
    try:
        data: JSON = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    return data


def _read_metrics(path: Path) -> list[JSON]:
    """One record a step, in order; a step written again after a resume counts once, as written last."""
    by_step = {record["step"]: record for _, record in _json_lines(path)}
    return [by_step[step] for step in sorted(by_step)]


def _index_episodes(folder: Path) -> dict[str, dict[str, dict[str, Episode]]]:
    index: dict[str, dict[str, dict[str, Episode]]] = {}
    for task_set in SETS:
        for stage in EVALUATED:
            path = folder / f"{stage}-{task_set}.jsonl"
            for offset, data in _json_lines(path):
                kind = data["info"].get("eval", {}).get("kind", "")
                passed = bool(data["score"]) and data["score"]["total"] >= 1.0
                episode = Episode(data["task_id"], stage, kind, passed, path, offset)
                index.setdefault(task_set, {}).setdefault(episode.task_id, {})[stage] = episode
    return index


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Offset and content of each line; a last line still being written is left out."""
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield offset, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
            offset += len(line)
