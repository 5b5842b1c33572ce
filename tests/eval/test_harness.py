from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from openk2.agent import run_episode
from openk2.eval.harness import episode_seed, evaluate
from openk2.eval.results import Results, read_results
from openk2.schema import Message, Observation, Sampling, Score, Task, ToolSpec, Trace


class Sums:
    """An environment of sums; a task of the kind "broken" breaks it."""

    resumable = "none"
    made = 0
    closed = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.task: Task | None = None

    def tasks(self, split: str) -> list[Task]:
        kinds = ["small", "large", "broken"] if split == "hard" else ["small", "large"]
        return [Task(f"{split}-{i}", "sums", kinds[i % len(kinds)], split, {"a": i, "b": i + 1}) for i in range(12)]

    async def reset(self, task: Task, seed: int) -> Observation:
        self.task = task
        return Observation([Message("user", f"{task.payload['a']} + {task.payload['b']}")], [])

    async def step(self, message: Message) -> Observation:
        assert self.task is not None
        await asyncio.sleep(0)
        if self.task.kind == "broken":
            raise RuntimeError("the world fell apart")
        return Observation([], [], terminated=True)

    async def score(self, trace: Trace) -> Score:
        assert self.task is not None
        right = trace.messages[-1].content == str(self.task.payload["a"] + self.task.payload["b"])
        return Score(float(right), {"sum": float(right)})

    async def close(self) -> None:
        type(self).closed += 1

    def snapshot(self) -> bytes:
        raise NotImplementedError

    def restore(self, state: bytes) -> None:
        raise NotImplementedError


class Adder:
    """Adds, but only sums below ``limit``; raises after ``patience`` answers."""

    def __init__(self, limit: int, patience: int = 10_000) -> None:
        self.limit, self.patience, self.num_answers = limit, patience, 0

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        self.num_answers += 1
        if self.num_answers > self.patience:
            raise ConnectionError("the engine is gone")
        await asyncio.sleep(0)
        total = sum(int(term) for term in messages[0].content.split("+"))
        return Message("assistant", str(total) if total < self.limit else "too much")


def run(policy: Adder, path: Path, split: str = "easy", *, policy_id: str = "adder", samples: int = 1) -> Results:
    return asyncio.run(
        evaluate(
            policy,
            Sums,
            Sums().tasks(split),
            run_episode=run_episode,
            sampling=Sampling(temperature=0.0),
            concurrency=4,
            out_path=path,
            policy_id=policy_id,
            num_samples=samples,
        )
    )


def test_every_task_is_played_and_judged(tmp_path: Path) -> None:
    results = run(Adder(limit=13), tmp_path / "sft-demonstrated.jsonl")
    assert results.pass_at_1().value == 0.5  # 1 + 3 + … + 23: six of twelve are below 13
    assert results.pass_at_1().n == 12
    assert set(results.by_kind()) == {"small", "large"}
    assert results.by_app()["sums"].n == 12
    assert results == read_results(tmp_path / "sft-demonstrated.jsonl")
    line = json.loads((tmp_path / "sft-demonstrated.jsonl").read_text().splitlines()[0])
    assert Trace.from_json(line).info["eval"]["sample"] == 0


def test_a_broken_environment_costs_its_own_trace_only(tmp_path: Path) -> None:
    Sums.made = Sums.closed = 0
    results = run(Adder(limit=1000), tmp_path / "out.jsonl", "hard")
    assert results.num_env_errors == 4
    assert results.pass_at_1().value == pytest.approx(8 / 12)
    assert results.by_kind()["broken"].value == 0.0
    assert results.stop_reasons == {"done": 8, "env_error": 4}
    assert Sums.made == 1 + 4 + 4  # the one that listed tasks, one a worker, one after each failure
    assert Sums.closed == 12  # after every episode
    errors = [json.loads(line)["info"].get("error") for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert errors.count("RuntimeError: the world fell apart") == 4


def test_a_failing_policy_ends_the_evaluation_and_resume_plays_only_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(ConnectionError, match="engine is gone"):
        run(Adder(limit=1000, patience=7), path)
    kept = path.read_text().splitlines()
    assert 0 < len(kept) <= 7
    with path.open("a") as file:
        file.write('{"id": "cut o')  # the crash came in the middle of a line
    second = Adder(limit=1000)
    results = run(second, path)
    assert second.num_answers == 12 - len(kept)
    assert results.pass_at_1().n == 12
    assert path.read_text().splitlines()[: len(kept)] == kept
    third = Adder(limit=1000)
    assert run(third, path) == results
    assert third.num_answers == 0


def test_a_file_of_another_policy_is_refused(tmp_path: Path) -> None:
    run(Adder(limit=5), tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"holds traces of \[adder seed=0.*not of \[other"):
        run(Adder(limit=5), tmp_path / "out.jsonl", policy_id="other")
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_samples_of_a_task_have_their_own_seeds(tmp_path: Path) -> None:
    results = run(Adder(limit=13), tmp_path / "out.jsonl", samples=3)
    assert len(results.outcomes) == 36
    assert results.pass_at_1().n == 12
    assert results.avg_at_k(seed=0).n == 12
    assert results.avg_at_k(seed=0).value == 0.5
    seeds = {json.loads(line)["seed"] for line in (tmp_path / "out.jsonl").read_text().splitlines()}
    assert len(seeds) == 36
    assert episode_seed(0, "easy-3", 1) in seeds
    assert episode_seed(1, "easy-3", 1) not in seeds


def test_repeated_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="distinct tasks"):
        asyncio.run(
            evaluate(
                Adder(1),
                Sums,
                Sums().tasks("easy") * 2,
                run_episode=run_episode,
                sampling=Sampling(),
                concurrency=1,
                out_path=tmp_path / "out.jsonl",
                policy_id="adder",
            )
        )
