"""Play a policy through a set of tasks and keep every episode.

Episodes run side by side; each trace is appended to a JSON Lines file the moment it ends, so an
interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol, TextIO

from openk2.eval.results import Outcome, Results, read_results, trace_lines
from openk2.schema import ChatModel, Env, Message, Observation, Policy, Sampling, Score, Task, Trace


class RunEpisode(Protocol):
    """The episode loop: `openk2.agent.run_episode` with its budget and chat format filled in."""

    async def __call__(
        self, policy: ChatModel | Policy, env: Env, task: Task, /, *, seed: int, sampling: Sampling
    ) -> Trace:
        """Play one judged episode."""
        ...


class EnvError(Exception):
    """An environment raised; the cause is chained."""


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
    written into every trace, and a file made under another name is refused. An environment that raises
    costs its own episode alone: score 0, stop reason ``env_error``, the error in ``info``. What the policy
    raises ends the evaluation; the finished traces stay. ``on_trace`` sees each new trace.

    Raises ValueError for an empty or repeated task, or an ``out_path`` of another evaluation.
    """
    if not tasks or len({task.id for task in tasks}) != len(tasks):
        raise ValueError(f"an evaluation needs distinct tasks, got {len(tasks)} with repeated or no ids")
    made_by = f"{policy_id} seed={seed} temperature={sampling.temperature} max_tokens={sampling.max_tokens}"
    done = _finished_episodes(out_path, made_by)
    todo = deque((task, i) for i in range(num_samples) for task in tasks if (task.id, i) not in done)

    async def work(out: TextIO) -> None:
        """Play episodes one after another, in one environment until it breaks."""
        env = _Watched(make_env())
        try:
            while todo:
                task, sample = todo.popleft()
                one_seed = episode_seed(seed, task.id, sample)
                try:
                    trace = await run_episode(policy, env, task, seed=one_seed, sampling=sampling)
                except EnvError as error:
                    trace = _lost_trace(task, one_seed, error)
                if trace.stop_reason == "env_error":
                    with suppress(EnvError):
                        await env.close()
                    env = _Watched(make_env())
                trace.versions["eval"] = made_by
                trace.info["eval"] = {"sample": sample, "kind": task.kind, "app": app_of(task), "split": task.split}
                out.write(json.dumps(trace.to_json(), ensure_ascii=False) + "\n")
                out.flush()
                on_trace(trace)
        finally:
            await env.close()

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


def _lost_trace(task: Task, seed: int, error: EnvError) -> Trace:
    """The trace of an episode that its environment broke."""
    return Trace(
        id=f"{task.id}-{seed:08x}",
        task_id=task.id,
        seed=seed,
        tokenizer_hash="",
        segments=[],
        messages=[],
        tools=[],
        stop_reason="env_error",
        score=Score(0.0),
        info={"error": str(error)},
    )


class _Watched:
    """An environment whose failures are told apart from the policy's: whatever it raises becomes EnvError."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self.resumable: Literal["snapshot", "replay", "none"] = env.resumable

    @contextmanager
    def _blame(self, act: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise EnvError(f"{type(self._env).__name__}.{act}: {type(error).__name__}: {error}") from error

    def tasks(self, split: str) -> Sequence[Task]:
        return self._env.tasks(split)

    async def reset(self, task: Task, seed: int) -> Observation:
        with self._blame("reset"):
            return await self._env.reset(task, seed)

    async def step(self, message: Message) -> Observation:
        with self._blame("step"):
            return await self._env.step(message)

    async def score(self, trace: Trace) -> Score:
        with self._blame("score"):
            return await self._env.score(trace)

    async def close(self) -> None:
        with self._blame("close"):
            await self._env.close()

    def snapshot(self) -> bytes:
        return self._env.snapshot()

    def restore(self, state: bytes) -> None:
        self._env.restore(state)
