"""Reinforcement learning: what earns reward becomes more frequent."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from openk2.jobs import jsonl
from openk2.optim.config import OptimConfig, Phase, ScheduleConfig
from openk2.schema import Env, Message, Observation, Task
from openk2.train.checkpoint import load_model
from openk2.train.config import RLConfig
from openk2.train.metrics import read_metrics
from openk2.train.replicas import Replicas
from openk2.train.rl.prompts import PromptSource
from openk2.train.rl.reinforce import MOST_EMPTY_STEPS, NothingToLearnError, reinforce
from openk2.train.rl.replay import replay
from openk2.train.step import Compute, NonFiniteLossError
from tests.train.episodes import STOPS, BeginEnv, begin_env, make_agent, make_chat

CPU = Compute(torch.device("cpu"))


def config(objective: str, steps: int) -> RLConfig:
    return RLConfig(
        steps=steps, micro_batch_rows=8, row_length=64, prompts_per_step=4, rollouts_per_prompt=8,
        families={"begin": 1.0}, objective=objective, tau=0.1, max_tokens=12, max_turns=3, checkpoint_every=1000,
        optim=OptimConfig(lr=0.02, adamw_lr=0.02, weight_decay=0.0),
        schedule=ScheduleConfig(phases=(Phase(length=1.0, to=1.0),), start=1.0),
    )  # fmt: skip


def prompts(tasks: list[Task] | None = None, seed: int = 0) -> PromptSource:
    return PromptSource(
        {"begin": tasks or BeginEnv().tasks("rl")}, {"begin": 1.0}, most_prompts=8, rollouts_per_prompt=8, seed=seed
    )


def run(folder: Path, settings: RLConfig, *, make_env: Callable[[str], Env] = begin_env) -> list[dict[str, float]]:
    """The metrics of a whole stage."""
    torch.set_num_threads(1)
    chat = make_chat()
    model, engine = make_agent(chat)
    reinforce(
        folder, model, chat, engine.config, prompts(), make_env, None, settings, CPU, stop_ids=STOPS, say=lambda _: None
    )
    return read_metrics(folder / "metrics.jsonl")


def rewards(folder: Path, objective: str, steps: int) -> list[float]:
    return [row["reward"] for row in run(folder, config(objective, steps))]


@pytest.mark.parametrize("objective", ["token", "sequence"])
def test_what_is_rewarded_becomes_frequent(tmp_path: Path, objective: str) -> None:
    found = rewards(tmp_path, objective, 40)
    assert sum(found[:4]) / 4 < 0.3
    assert sum(found[-4:]) / 4 > 0.8


@pytest.mark.slow
def test_two_processes_play_and_train_and_repeat_themselves(tmp_path: Path) -> None:
    """Rollouts are shared out as micro-batches are; the same command gives the same numbers."""
    found = []
    for name in ("once", "again"):
        chat = make_chat()
        model, engine = make_agent(chat)
        torch.set_num_threads(2)
        try:
            reinforce(
                tmp_path / name, model, chat, engine.config, prompts(), begin_env, None, config("token", 6), CPU,
                stop_ids=STOPS, say=lambda _: None,
            )  # fmt: skip
        finally:
            torch.set_num_threads(1)
        rows = read_metrics(tmp_path / name / "metrics.jsonl")
        found.append([(row["reward"], row["response_tokens"], row["loss"]) for row in rows])
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_the_metrics_describe_the_rollouts(tmp_path: Path) -> None:
    rewards(tmp_path, "token", 3)
    for row in read_metrics(tmp_path / "metrics.jsonl"):
        assert 0 <= row["pass_rate"] <= row["reward"] <= 1
        assert row["pass_rate/begin"] == row["pass_rate"]
        assert row["response_tokens"] > 1
        assert abs(row["log_ratio"]) < 1e-4
        assert row["kl"] == pytest.approx(0.0, abs=1e-6)
        assert row["importance"] == pytest.approx(1.0), "over the samples learnt from, not over all"


def test_the_temperature_falls_and_the_trainer_knows(tmp_path: Path) -> None:
    rows = run(tmp_path, config("token", 4).model_copy(update={"temperature": (1.5, 0.5)}))
    assert [row["temperature"] for row in rows] == [1.5, 1.25, 1.0, 0.75]
    assert all(abs(row["log_ratio"]) < 1e-4 for row in rows), "at another temperature, other log-probabilities"


@pytest.mark.parametrize("seed", [0, 5])
def test_an_interrupted_stage_ends_alike(tmp_path: Path, seed: int) -> None:
    """Also where another model is given: the checkpoint's weights count, and what the disk has of another policy does not."""
    chat = make_chat()
    whole = rewards(tmp_path / "whole", "token", 6)
    stop_at = 3

    def stop(row: Mapping[str, float]) -> None:
        if row["step"] == stop_at:
            raise KeyboardInterrupt

    settings = config("token", 6).model_copy(update={"checkpoint_every": 2})
    said: list[str] = []

    def stage(seed: int, on_metrics: Callable[[Mapping[str, float]], None], make_env: Callable[[str], Env]) -> None:
        model, engine = make_agent(chat, seed)
        reinforce(
            tmp_path / "cut", model, chat, engine.config, prompts(), make_env, None, settings, CPU,
            stop_ids=STOPS, on_metrics=on_metrics, say=said.append,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        stage(0, stop, begin_env)
    with pytest.raises(KeyboardInterrupt):  # step 3 is done again from the disk: no environment would answer
        stage(0, stop, lambda _: Dying())
    assert not any("another policy" in line for line in said)
    stage(seed, lambda _: None, begin_env)
    assert any("another policy" in line for line in said) == (seed != 0)
    assert [row["reward"] for row in read_metrics(tmp_path / "cut" / "metrics.jsonl")] == whole
    chosen = list(jsonl.read(tmp_path / "cut" / "curriculum.jsonl"))
    assert [row["step"] for row in chosen] == list(range(1, len(whole) + 1))
    assert all(len(row["choices"]) == 4 for row in chosen)


def test_the_long_tail_goes_on_in_later_steps(tmp_path: Path) -> None:
    changes = {"prompts_in_flight": 8, "importance_cap": 2.0, "checkpoint_every": 5}
    rows = run(tmp_path, config("token", 40).model_copy(update=changes))
    assert sum(row["reward"] for row in rows[-4:]) / 4 > 0.7
    assert max(row["max_staleness"] for row in rows) > 0
    assert sum(row.get("paused", 0) for row in rows) > 0
    assert all(row["in_flight"] == 4 for row in rows)
    assert all(0 <= row["idle_share"] < 1 for row in rows)
    learnt = [row["id"] for path in (tmp_path / "rollouts").glob("step-*") for row in jsonl.read(path)]
    assert len(learnt) == len(set(learnt)) == 40 * 4 * 8
    assert all(row["importance"] < 2.0 for row in rows if row["mixed_groups"])
    capped = run(tmp_path / "capped", config("token", 12).model_copy(update=changes | {"importance_cap": 1.0}))
    learnt = [row for row in capped if row["mixed_groups"]]
    assert max(row["capped"] for row in learnt) > 0
    assert min(row["importance"] for row in learnt) < max(row["importance"] for row in learnt) <= 1.0 + 1e-6
    spans = [span["what"] for row in jsonl.read(tmp_path / "timeline.jsonl") for span in row["spans"]]
    assert {"rollout", "train", "update", "switch", "save"} <= set(spans)


@pytest.mark.parametrize("router_replay", [False, True])
def test_a_dumped_step_replays_to_its_loss(tmp_path: Path, router_replay: bool) -> None:
    changes = {"checkpoint_every": 1, "keep_checkpoints": 10, "router_replay": router_replay, "prompts_in_flight": 6}
    settings = config("token", 4).model_copy(update=changes)
    rows = run(tmp_path, settings)
    chat = make_chat()
    for step in (2, 3, 4):
        model, _ = make_agent(chat, seed=9)
        load_model(tmp_path / "checkpoints" / f"step-{step - 1:06d}", model)
        with Replicas(model, 1) as replicas:
            found = replay(tmp_path / "rollouts" / f"step-{step:06d}.jsonl", model, chat, settings, CPU, replicas)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert found["loss"] == rows[step - 1]["loss"]
        assert float(torch.nn.utils.get_total_norm(gradients)) == rows[step - 1]["grad_norm"]
    with pytest.raises(ValueError, match="there is no such file"):
        replay(tmp_path / "rollouts" / "step-000099.jsonl", model, chat, settings, CPU, replicas)


def test_what_a_penalty_costs_is_no_more_than_a_failure_to_the_curriculum(tmp_path: Path) -> None:
    rows = run(tmp_path, config("token", 2).model_copy(update={"max_tokens": 1, "truncation_penalty": 0.5}))
    assert [row["reward"] for row in rows] == [-0.5, -0.5]
    assert all(row["truncated"] == 1 for row in rows)


class Dying(BeginEnv):
    """Dies in the middle of every turn."""

    async def step(self, message: Message) -> Observation:
        raise OSError("gone")


def test_steps_without_anything_to_learn_from_end_the_stage(tmp_path: Path) -> None:
    with pytest.raises(NothingToLearnError, match=r"10 steps in a row .* \(dropped/env_raised 3[0-2]"):
        run(tmp_path, config("token", 40), make_env=lambda _: Dying())
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert len(rows) == MOST_EMPTY_STEPS - 1
    assert all(row["grad_norm"] == 0 for row in rows), "nothing was updated"


def test_steps_that_teach_nothing_do_not_end_it(tmp_path: Path) -> None:
    """Every answer is cut after a token and earns as much."""
    rows = run(tmp_path, config("token", MOST_EMPTY_STEPS + 2).model_copy(update={"max_tokens": 1}))
    assert len(rows) == MOST_EMPTY_STEPS + 2
    assert all(row["dropped/uniform_group"] == 4 * 8 for row in rows)


class Endless(BeginEnv):
    """Never answers."""

    async def step(self, message: Message) -> Observation:
        await asyncio.sleep(60)
        return await super().step(message)


def test_an_environment_has_as_long_as_the_recipe_says(tmp_path: Path) -> None:
    settings = config("token", 40).model_copy(update={"env_seconds": 0.02})
    with pytest.raises(NothingToLearnError, match=r"dropped/env_timed_out 3[0-2]"):
        run(tmp_path, settings, make_env=lambda _: Endless())


def test_nothing_older_than_allowed_is_learnt_from(tmp_path: Path) -> None:
    changes = {"prompts_in_flight": 8, "max_staleness": 0}
    rows = run(tmp_path, config("token", 5).model_copy(update=changes))
    assert max(row["max_staleness"] for row in rows) == 0
    assert sum(row.get("dropped/stale", 0) for row in rows) > 0


def test_a_loss_that_is_not_finite_names_the_groups_it_came_from(tmp_path: Path) -> None:
    settings = config("token", 2).model_copy(update={"tau": math.nan})
    with pytest.raises(NonFiniteLossError, match=r"at step 1; .* groups 0 \(rl-\d+\) 1 \(rl-\d+\)"):
        run(tmp_path, settings)


def test_prompts_come_by_share_and_kinds_that_teach_more_often() -> None:
    def made(family: str, kind: str, count: int) -> list[Task]:
        return [Task(f"{family}-{kind}-{i}", family, kind, "rl", {}) for i in range(count)]

    few = {"rollouts_per_prompt": 8, "seed": 0}
    tasks = {"a": [*made("a", "rare", 25), *made("a", "common", 75)], "b": made("b", "only", 5)}
    source = PromptSource(tasks, {"a": 3.0, "b": 1.0}, most_prompts=1, **few)
    drawn = Counter(source.draw(1)[0].kind for _ in range(2000))
    assert drawn["only"] == pytest.approx(500, abs=80)
    assert drawn["rare"] == pytest.approx(375, abs=80)
    for _ in range(200):  # from now on, prompts of kind "rare" always fail and those of "common" teach
        (task,) = source.draw(1)
        source.learn([(task, [0.0, 1.0] * 4 if task.kind == "common" else [0.0] * 8)])
    drawn = Counter(source.draw(1)[0].kind for _ in range(2000))
    assert drawn["only"] == pytest.approx(500, abs=80), "the shares of the families stay"
    assert 10 < drawn["rare"] < 150 < drawn["common"], "a kind that does not teach comes seldom, but comes"
    resumed = PromptSource(tasks, {"a": 3.0, "b": 1.0}, most_prompts=1, **few)
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    assert [resumed.draw(1)[0].id for _ in range(50)] == [source.draw(1)[0].id for _ in range(50)]
    source = PromptSource(tasks, {"a": 3.0, "b": 1.0}, most_prompts=5, **few)
    assert all(len({task.id for task in source.draw(5)}) == 5 for _ in range(50)), "a step draws no prompt twice"
    with pytest.raises(ValueError, match="more than 'b' has tasks"):
        PromptSource(tasks, {"a": 3.0, "b": 1.0}, most_prompts=6, **few)
    with pytest.raises(ValueError, match=r"rl\.families names \['c'\]"):
        PromptSource(tasks, {"c": 1.0}, most_prompts=1, **few)
    with pytest.raises(ValueError, match="'b', which has no tasks"):
        PromptSource({"b": []}, {"b": 1.0}, most_prompts=1, **few)
