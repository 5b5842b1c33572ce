"""Trajectories as the worlds make them: the scripted teacher plays real tasks, with faults and slips.

As a program it writes a folder of them: ``python -m tests.view.trajectories.episodes FOLDER NUMBER``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from openk2.agent import run_episode
from openk2.gym.tools import ToolEnv
from openk2.jobs import jsonl
from openk2.jobs.atomic import write_json
from openk2.jobs.funnel import Funnel
from openk2.schema import Message, Observation, Score, Trace
from openk2.worlds.config import WorldsConfig
from openk2.worlds.simulator import Called
from openk2.worlds.state import Rows
from openk2.worlds.tasks import make_task
from openk2.worlds.teacher import ScriptedTeacher

CONFIG = WorldsConfig(fault_rate=0.25)
SPLITS = ("train", "train", "train", "heldout", "unseen_domain")
ROLES = (
    ("clerk", "two years at the counter", "brief"),
    ("supervisor", "knows every rule", "friendly"),
    ("night shift", "new here", "careful"),
)
PERSONAS = (("a shop owner in a hurry", "short sentences"), ("a patient regular", "polite"))


class Watched(ToolEnv):
    """The worlds' environment, which writes down what every call changed."""

    def __init__(self, config: WorldsConfig) -> None:
        super().__init__(config)
        self.calls: list[dict[str, Any]] = []
        self.hashes: list[str] = []

    async def step(self, message: Message) -> Observation:
        if not self.hashes:
            self.hashes.append(self.world.state_hash())
        before, num_logged = self.world.rows(), len(self.world.log)
        observation = await super().step(message)
        changed = changes(self.world.app.name, before, self.world.rows())
        self.calls += [logged(called, changed) for called in self.world.log[num_logged:]]
        return observation

    async def score(self, trace: Trace) -> Score:
        self.hashes.append(self.world.state_hash())
        return await super().score(trace)


def logged(called: Called, changed: list[dict[str, Any]]) -> dict[str, Any]:
    fault = called.result["error"] if called.fault else None
    return {**called.to_json(), "fault": fault, "changes": changed}


def changes(app: str, before: Rows, after: Rows) -> list[dict[str, Any]]:
    return [
        {"app": app, "entity": entity, "key": key, "field": field,
         "before": before[entity].get(key, {}).get(field), "after": value}
        for entity, rows in after.items()
        for key, row in rows.items()
        for field, value in row.items()
        if before[entity].get(key, {}).get(field) != value
    ]  # fmt: skip


def record(index: int, sloppiness: float = 0.25) -> dict[str, Any]:
    """Record ``index``: kept, or rejected with stage and reason."""
    rng = Random(f"episodes/{index}")
    task = make_task(CONFIG, rng.choice(SPLITS), index)
    env = Watched(CONFIG)
    teacher = ScriptedTeacher(task, seed=0, sloppiness=sloppiness)
    trace = asyncio.run(run_episode(teacher, env, task, seed=index))
    assert task.rubric is not None
    assert trace.score is not None
    missed = " + ".join(name for name, part in trace.score.parts.items() if part < 1)
    (role, expertise, manner), (persona, style) = rng.choice(ROLES), rng.choice(PERSONAS)
    return {
        "id": task.id,
        "messages": [message.to_json() for message in trace.messages],
        "tools": [tool.to_json() for tool in trace.tools],
        "split": task.split,
        "kind": task.kind,
        "tags": list(task.tags),
        "rubric": task.rubric.to_json(),
        "score": {"total": trace.score.total, "parts": trace.score.parts},
        "seed": index,
        "agent": {"id": f"agent-{rng.randrange(40)}", "role": role, "expertise": expertise, "manner": manner},
        "user": {"persona": persona, "style": style} if rng.random() < 0.5 else None,
        "calls": env.calls,
        "state": {"before": env.hashes[0], "after": env.hashes[-1]},
        "provenance": {"author": "scripted", "version": "test", "recipe": "tests"},
        "stage": "judge" if missed else None,
        "reason": f"missed {missed}" if missed else None,
    }


def records(num: int) -> Iterator[dict[str, Any]]:
    return map(record, range(num))


def write_folder(folder: Path, num: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """``trajectories.jsonl``, ``rejects.jsonl`` and ``funnel.json``; returns kept and rejected."""
    kept: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    funnel = Funnel()
    for one in records(num):
        funnel.keep("task")
        if one["stage"]:
            rejected.append(one)
            funnel.reject(one["stage"], one["reason"])
        else:
            kept.append(one)
            funnel.keep("judge")
    folder.mkdir(parents=True, exist_ok=True)
    jsonl.write(folder / "trajectories.jsonl", kept)
    jsonl.write(folder / "rejects.jsonl", rejected)
    write_json(folder / "funnel.json", funnel.to_json())
    return kept, rejected


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]), int(sys.argv[2]))
