"""Write trajectories that are verified, not believed (K2 §3.1): gate the task, play the teacher, judge, keep or say why not.

The episode loop and the environment are handed in, so that demonstrations come from the very loop that RL and evaluation use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from openk2.jobs import jsonl
from openk2.jobs.atomic import write_json
from openk2.jobs.executor import run_jobs
from openk2.jobs.funnel import Funnel
from openk2.schema import JSON, ChatModel, Env, Task, Trace
from openk2.worlds.config import WorldsConfig
from openk2.worlds.gates import failed_gate
from openk2.worlds.tasks import make_task
from openk2.worlds.teacher import ScriptedTeacher

STAGES = ("task", "gates", "episode", "judge")
NUM_WORKERS = 16
LIMIT_S = 60.0


class RunEpisode(Protocol):
    """The part of the episode loop that synthesis needs."""

    def __call__(self, model: ChatModel, env: Env, task: Task, *, seed: int) -> Awaitable[Trace]:
        """Play one episode and return its scored trace."""
        ...


async def synthesize(
    config: WorldsConfig,
    out_dir: Path,
    run_episode: RunEpisode,
    make_env: Callable[[], Env],
    on_progress: Callable[[int], None] | None = None,
) -> Funnel:
    """Play the teacher on every training task and write ``traces.jsonl``, ``rejects.jsonl`` and ``funnel.json``.

    A task ends in exactly one of the two files, in one append. Started again after a kill, it goes on with the tasks that
    are in neither. ``on_progress`` hears, per record, how many are written. Returns the funnel over both files.
    """
    kept_path, rejected_path = out_dir / "traces.jsonl", out_dir / "rejects.jsonl"
    with jsonl.Appender(kept_path) as kept, jsonl.Appender(rejected_path) as rejected:
        done = {record["task_id"] for path in (kept_path, rejected_path) for record in jsonl.read(path)}
        missing = (i for i in range(config.num_tasks("train")) if f"train-{i:06d}" not in done)
        num_done = len(done)

        async def play(index: int) -> JSON:
            # Yields, so that a caller's other work and Ctrl-C get their turn between records.
            await asyncio.sleep(0)
            return await _play(config, index, run_episode, make_env())

        async for outcome in run_jobs(play, missing, num_workers=NUM_WORKERS, limit_s=LIMIT_S):
            record = outcome.value
            if record is None:
                error = outcome.error
                record = _rejected(f"train-{outcome.item:06d}", "episode", f"{type(error).__name__}: {error}")
            (rejected if "stage" in record else kept).write(record)
            num_done += 1
            if on_progress is not None:
                on_progress(num_done)
    for path in (kept_path, rejected_path):
        _put_in_task_order(path)
    funnel = count(out_dir)
    write_json(out_dir / "funnel.json", funnel.to_json())
    return funnel


def _put_in_task_order(path: Path) -> None:
    """Records come as their episodes end; what is learnt from them must not depend on that."""
    jsonl.write(path, sorted(jsonl.read(path), key=lambda record: str(record["task_id"])))


def count(out_dir: Path) -> Funnel:
    """The funnel over what ``synthesize`` has written so far."""
    funnel = Funnel()
    for _ in jsonl.read(out_dir / "traces.jsonl"):
        for stage in STAGES:
            funnel.keep(stage)
    for record in jsonl.read(out_dir / "rejects.jsonl"):
        for stage in STAGES[: STAGES.index(record["stage"])]:
            funnel.keep(stage)
        funnel.reject(record["stage"], record["reason"])
    return funnel


async def _play(config: WorldsConfig, index: int, run_episode: RunEpisode, env: Env) -> JSON:
    """One record: a trace, or a reject with stage and reason."""
    try:
        task = make_task(config, "train", index)
    except ValueError as error:
        return _rejected(f"train-{index:06d}", "task", str(error))
    gate = failed_gate(task, seed=config.seed)
    if gate is not None:
        return _rejected(task.id, "gates", gate)
    teacher = ScriptedTeacher(task, seed=config.seed, sloppiness=config.sloppiness)
    seed = config.seed * 1_000_003 + index
    trace = await run_episode(teacher, env, task, seed=seed)
    record = _record(task, trace)
    if trace.stop_reason != "done" or trace.score is None:
        return {"stage": "episode", "reason": trace.stop_reason or "no score", **record}
    if trace.score.passed:
        return record
    missed = " + ".join(name for name, part in trace.score.parts.items() if part < 1)
    return {"stage": "judge", "reason": f"missed {missed}", **record}


def _record(task: Task, trace: Trace) -> JSON:
    return {
        "task_id": task.id,
        "seed": trace.seed,
        "kind": task.kind,
        "app": task.tags[0],
        "tags": list(task.tags[1:]),
        "score": trace.score.total if trace.score else 0.0,
        "messages": [message.to_json() for message in trace.messages],
        "tools": [tool.to_json() for tool in trace.tools],
    }


def _rejected(task_id: str, stage: str, reason: str) -> JSON:
    return {"task_id": task_id, "stage": stage, "reason": reason}
