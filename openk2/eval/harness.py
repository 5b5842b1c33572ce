"""Play a policy through a set of tasks and keep every episode.

Episodes run side by side; each trace is appended to a JSON Lines file the moment it ends, so an
interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from openk2.eval.results import Outcome, Results, read_results, trace_lines
from openk2.schema import ChatModel, Env, Policy, Sampling, Task, Trace


class RunEpisode(Protocol):
    """The episode loop: `openk2.agent.run_episode` with its budget and chat format filled in.

    It closes the environment after each episode, and turns one that breaks into a trace of score 0
    with the stop reason ``env_error``.
    """

    async def __call__(
        self, policy: ChatModel | Policy, env: Env, task: Task, /, *, seed: int, sampling: Sampling
    ) -> Trace:
        """Play one judged episode."""
        ...


async def evaluate(
    policy: ChatModel | Policy,
    make_env: Callable[[], Env],
    tasks: Sequence[Task],
    *,
    run_episode: RunEpisode,
    sampling: Sampling,
    concurrency: int,
    out_path: Path,
    policy_id: str,
    seed: int = 0,
    num_samples: int = 1,
    app_of: Callable[[Task], str] = lambda task: task.family,
    on_trace: Callable[[Trace], None] = lambda trace: None,
) -> Results:
    """Run ``num_samples`` episodes of every task; return the results, those of earlier runs included.

    ``policy_id`` names the weights (a checkpoint's path and step): with the sampling and the seed it is
    written into every trace, and a file made under another name is refused. Each of ``concurrency`` workers
    has an environment of its own, and a fresh one after an episode that broke it. What the policy raises
    ends the evaluation; the finished traces stay. ``on_trace`` sees each new trace.

    Raises ValueError for an empty or repeated task, or an ``out_path`` of another evaluation.
    """
    if not tasks or len({task.id for task in tasks}) != len(tasks):
        raise ValueError(f"an evaluation needs distinct tasks, got {len(tasks)} with repeated or no ids")
    made_by = f"{policy_id} seed={seed} temperature={sampling.temperature} max_tokens={sampling.max_tokens}"
    done = _finished_episodes(out_path, made_by)
    todo = deque((task, i) for i in range(num_samples) for task in tasks if (task.id, i) not in done)

    async def work(out: TextIO) -> None:
        """Play episodes one after another, in one environment until it breaks."""
        env = make_env()
        while todo:
            task, sample = todo.popleft()
            trace = await run_episode(policy, env, task, seed=episode_seed(seed, task.id, sample), sampling=sampling)
            trace.versions["eval"] = made_by
            trace.info["eval"] = {"sample": sample, "kind": task.kind, "app": app_of(task)}
            out.write(json.dumps(trace.to_json(), ensure_ascii=False) + "\n")
            out.flush()
            on_trace(trace)
            if trace.stop_reason == "env_error":
                env = make_env()

    out_path.parent.mkdir(parents=True, exist_ok=True)
    with out_path.open("a", encoding="utf-8") as out:
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(concurrency, len(todo))):
                    workers.create_task(work(out))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None  # the first failure cancelled the others: it is the one to show
    wanted = {(task.id, i) for task in tasks for i in range(num_samples)}
    return Results(tuple(o for o in read_results(out_path).outcomes if (o.task_id, o.sample) in wanted))


def episode_seed(seed: int, task_id: str, sample: int) -> int:
    """The seed of one episode: the same on every machine and in any order of play."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{task_id}/{sample}".encode()).digest()[:4], "big")


def _finished_episodes(path: Path, made_by: str) -> set[tuple[str, int]]:
    """Which episodes the file holds already. A line cut off by a crash is removed."""
    if not path.exists():
        return set()
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
    done = set()
    for data in trace_lines(path):
        if (found := data["versions"].get("eval")) != made_by:
            raise ValueError(f"{path} holds traces of [{found}], not of [{made_by}]: move it away to evaluate anew")
        outcome = Outcome.from_trace_json(data)
        done.add((outcome.task_id, outcome.sample))
    return done
