"""The studies of reinforcement learning, with a tiny model and few steps; what they find at full length stands in results/."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from openk2 import cli, pipeline
from openk2.engine.fingerprint import fingerprint
from openk2.gym.families import make_env, tasks
from openk2.gym.service.client import ServiceGoneError
from openk2.gym.service.env import ServiceEnv
from openk2.jobs import jsonl
from openk2.jobs.atomic import write_json
from openk2.pipeline import stages
from openk2.pipeline.folder import Run
from openk2.recipe import Recipe
from openk2.schema import Message, Trace
from openk2.stats import mean_interval, t_interval
from openk2.studies import runs
from openk2.studies.rl.catalogue import STUDIES, Study, study_of
from openk2.studies.rl.latency import Latency, SlowEnv, slow_service
from openk2.studies.rl.measure import GREEDY, KNOWN_PAIRS, SAMPLED, Bench, _ended
from openk2.studies.rl.report import write_report
from openk2.studies.rl.run import CONTROL, RL, Arm, Plan, _made, _refuse_other, _room, _sft, recipe_of, run, study
from openk2.train.metrics import read_metrics
from openk2.worlds.config import WorldsConfig
from tests.pipeline.conftest import ROOT, environment, write_recipe

PROVENANCE = {"commit": "abc", "machine": "here", "torch": "2", "date": "today", "python": "3"}
COMMIT = "abc"
EXACT = ("reward", "ptx_loss", "grad_norm", "response_tokens")  # of what a step tells, what no clock changes
CRITIC = """
[rl.families]
tools = 0.4
math = 0.2
logic = 0.2
writing = 0.2

[rl.critic]
families = ["writing"]
pairs_per_step = 2
heldout_pairs = 2
compare = { opponents = 2 }

[gym.undemonstrated]
math = ["comparison"]
writing = ["apologise", "compare"]
"""


def tiny(name: str, num_steps: int = 2) -> Study:
    """A study at toy size."""
    found = study_of(name, num_steps)
    return replace(found, plan=replace(found.plan, num_tasks=3))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    tiny = Recipe.load(write_recipe(tmp_path_factory.mktemp("recipes") / "tiny.toml", CRITIC))
    enough = tiny.worlds.model_copy(update={"num_undemonstrated": 32})  # for 24 prompts in flight
    return tiny.model_copy(update={"worlds": enough})


@pytest.fixture(scope="module")
def folder(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the SFT model of all studies."""
    folder = tmp_path_factory.mktemp("study")
    pipeline.run_stage("sft", recipe, folder / "base")
    return folder


# -- arms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_differs_from_the_first_in_what_it_says_alone(name: str) -> None:
    base = Recipe.load(ROOT / "recipes" / "study-rl.toml")
    found = STUDIES[name]
    recipes = [recipe_of(found.plan, arm, base, seed=2, num_steps=7) for arm in found.arms]
    told = [each.model_dump(mode="json") for each in recipes]
    for arm, changed in zip(found.arms, told, strict=True):
        for key, value in arm.rl.items():
            assert changed["rl"][key] == value
        for key, value in arm.critic.items():
            assert changed["rl"]["critic"][key] == value
    keys = {key for arm in found.arms for key in (*arm.rl, *(["critic"] if arm.critic else []))}
    rest = [each | {"rl": {key: value for key, value in each["rl"].items() if key not in keys}} for each in told]
    assert all(each == rest[0] for each in rest)
    assert len({json.dumps(each) for each in told}) == len(told)
    assert all(each.rl is not None and each.rl.steps == 7 for each in recipes)
    assert {each.seed for each in recipes} == {base.seed + 2}
    assert {each.threads for each in recipes} == {base.threads if name == "lift" else 1}


def test_partial_rollouts_have_more_prompts_in_flight_than_a_step_takes() -> None:
    base, found = Recipe.load(ROOT / "recipes" / "study-rl.toml"), STUDIES["partial"]
    settings = [recipe_of(found.plan, arm, base, seed=0, num_steps=7).rl for arm in found.arms]
    assert [rl.in_flight / rl.prompts_per_step for rl in settings if rl is not None] == [1, 2, 3]


def test_arms_of_the_mix_have_as_many_prompts_of_each_family() -> None:
    base = Recipe.load(ROOT / "recipes" / "study-rl.toml")
    plan, arms = STUDIES["mix"].plan, STUDIES["mix"].arms
    counts = []
    for arm in arms:
        rl = recipe_of(plan, arm, base, seed=0, num_steps=7).rl
        assert rl is not None
        whole = sum(rl.families.values())
        counts.append({family: rl.prompts_per_step * share / whole for family, share in rl.families.items()})
        assert rl.in_flight / rl.prompts_per_step == pytest.approx(4 / 3, abs=0.1)
        assert rl.ptx_weight * rl.prompts_per_step == pytest.approx(48), "PTX weighs as much beside a sample"
    both, *others = counts
    assert set().union(*others) == set(both)
    for few in others:
        assert all(few[family] == pytest.approx(both[family], abs=0.5) for family in few)


def test_the_command_knows_every_study() -> None:
    assert cli.RL_STUDIES.keys() == STUDIES.keys()
    assert all(STUDIES[name].plan.name == name for name in STUDIES)


# -- slow environments ------------------------------------------------------------------------


def test_latencies_are_long_tailed_and_the_same_message_waits_as_long() -> None:
    latency = Latency(median=0.2, sigma=1.2, most=3.0)
    drawn = sorted(latency.seconds(0, Message("assistant", str(i))) for i in range(2000))
    assert drawn[1000] == pytest.approx(0.2, rel=0.1)
    assert drawn[-1] == 3.0
    assert statistics.mean(drawn) > 1.5 * drawn[1000]
    one = latency.seconds(4, Message("assistant", "one"))
    assert one == latency.seconds(4, Message("assistant", "one"))
    assert one != latency.seconds(5, Message("assistant", "one"))


def test_a_slow_episode_answers_late_and_goes_on_elsewhere() -> None:
    async def answers() -> tuple[float, float, str, str]:
        ours, other = (SlowEnv(make_env("tools", WorldsConfig()), Latency(0.05, 0.3)) for _ in range(2))
        task = ours.tasks("heldout")[0]
        await ours.reset(task, 7)
        other.restore(ours.snapshot())
        seconds, said = [], []
        for env in (ours, other):
            began = time.perf_counter()
            observation = await env.step(Message("assistant", "no idea"))
            seconds.append(time.perf_counter() - began)
            said.append(repr(observation))
            await env.close()
        return seconds[0], seconds[1], said[0], said[1]

    first, second, said, again = asyncio.run(answers())
    wanted = Latency(0.05, 0.3).seconds(7, Message("assistant", "no idea"))
    assert first >= wanted
    assert second >= wanted
    assert said == again


def test_a_slow_service_plays_and_ends(folder: Path) -> None:
    async def wait(url: str) -> float:
        envs = [ServiceEnv(url, "tools") for _ in range(20)]
        tasks = envs[0].tasks("heldout")[:20]
        await asyncio.gather(*(env.reset(task, 0) for env, task in zip(envs, tasks, strict=True)))
        began = time.perf_counter()
        await asyncio.gather(*(env.step(Message("assistant", "no idea")) for env in envs))
        waited = time.perf_counter() - began
        for env in envs:
            await env.close()
        return waited

    with slow_service("tools", WorldsConfig(), Latency(median=0.3, sigma=0.0)) as url:
        assert 0.3 <= asyncio.run(wait(url)) < 3.0, "twenty wait side by side"
    with pytest.raises(ServiceGoneError):
        ServiceEnv(url, "tools").tasks("heldout")


@pytest.mark.slow
def test_a_slow_service_does_not_outlive_its_parent() -> None:
    program = (
        "import time\n"
        "from openk2.studies.rl.latency import Latency, slow_service\n"
        "from openk2.worlds.config import WorldsConfig\n"
        "if __name__ == '__main__':\n"
        "    with slow_service('tools', WorldsConfig(), Latency()) as url:\n"
        "        print(url, flush=True)\n"
        "        time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment())
    assert parent.stdout is not None
    port = int(parent.stdout.readline().rpartition(":")[2])
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while _listens(port):
        assert time.monotonic() < deadline, "the service is still there"
        time.sleep(0.1)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


# -- what is measured -------------------------------------------------------------------------


def test_what_sft_taught_is_measured_on_demonstrations_of_held_out_tasks(folder: Path) -> None:
    base = Run.reopen(folder / "base")
    bench = Bench(base, 3)
    assert {name.partition("/")[0] for name in bench.sets} == {"tools", "math", "logic", "writing"}
    assert {task.kind for task in bench.sets["math/undemonstrated"]} == {"comparison"}
    assert "comparison" not in {task.kind for task in bench.sets["math/demonstrated"]}
    assert "logic/undemonstrated" not in bench.sets, "all of its kinds are shown"
    losses = [bench.demonstration_loss(base.model_after(stage)) for stage in ("sft", "pretrain")]
    assert losses[0] < losses[1]


def test_demonstrations_are_measured_in_the_very_words_that_sft_has(folder: Path) -> None:
    """Token by token: another way to write the same call would drown what is unlearnt."""
    base = Run.reopen(folder / "base")
    recipe, bench = base.recipe, Bench(base, 3)
    in_sft = {str(each) for each in stages._dialogues(base, 512, 1, seed=0).dialogues}
    same = {
        family: [str(each) in in_sft for each in bench.shown(tasks(family, recipe.worlds, "train", recipe.gym)[:20])]
        for family in ("tools", "math", "logic")
    }
    assert all(same["math"])
    assert all(same["logic"])
    assert sum(same["tools"]) >= 14, "the others met a fault, or a teacher that slipped"


def test_letters_without_an_end_are_not_compared_and_lose(folder: Path) -> None:
    """As in training. The others are, also those of special tokens, which are ten times as long to read as to say."""
    base = Run.reopen(folder / "base")
    bench, name = Bench(base, 1), "writing/undemonstrated"
    (folder / "letters").mkdir()
    bench.letters(base.model_after("sft"), folder / "letters")
    path = next((folder / "letters").glob("writing-undemonstrated-*.jsonl"))
    trace = Trace.from_json(next(iter(jsonl.read(path))))
    trace.messages[-1] = Message("assistant", "Well.")
    for stop_reason, reply in (("done", "Well."), ("token_budget", None), ("turn_budget", None)):
        assert _ended(replace(trace, stop_reason=stop_reason)) == reply  # type: ignore[arg-type]

    class Never:
        async def compare(self, *_: Any) -> None:
            raise AssertionError("it is asked")

    def better(ours: str | None, theirs: str | None) -> float:
        letters = ({name: [(ours, 0.0)]}, {name: [(theirs, 0.0)]})
        return asyncio.run(bench._reward(Never(), *letters, 60))  # type: ignore[arg-type]

    pairs = ((None, "Well."), ("Well.", None), (None, None), ("Well.", "Well."))
    assert [better(*pair) for pair in pairs] == [0.0, 1.0, 0.5, 0.5]
    model, runaway = base.model_after("sft"), "<|tool_call_end|>" * bench.answer_tokens
    told = bench.judged(model, model, folder / "letters", {each: [(runaway, 0.0)] for each in bench.sets})
    assert 0 <= told["reward"] <= 1


# -- runs -------------------------------------------------------------------------------------


def test_a_run_that_another_study_made_is_taken(folder: Path) -> None:
    """Of the same recipe, seed and measurements, and of no other."""
    found, base = tiny("objective"), Run.reopen(folder / "base")
    sft = fingerprint(base.model_after("sft"))
    arm, lent = found.arms[0], folder / "lender" / "as-it-was-called-seed-0.json"
    made = _made(sft, recipe_of(found.plan, arm, base.recipe, 0, 2), found.plan)
    write_json(lent, {"arm": {"name": "as it was called"}, "seed": 0, "num_steps": 2, "made": {"commit": COMMIT, **made},
                      "course": ["lent"]})  # fmt: skip
    taken = run(folder, found.plan, COMMIT, arm, seed=0, num_steps=2)
    assert (taken["course"], taken["arm"]) == (["lent"], asdict(arm))
    plans = [replace(found.plan, **other) for other in ({"num_tasks": 4}, {"looks": 2}, {"control": True})]
    others = [_made(sft, recipe_of(plan, arm, base.recipe, 0, 2), plan) for plan in plans]
    others += [
        _made(sft, recipe_of(found.plan, each, base.recipe, seed, 2), found.plan)
        for each, seed in ((found.arms[1], 0), (arm, 1))
    ]
    assert made not in others
    lent.unlink()


@pytest.mark.slow
def test_a_run_repeats_to_the_bit_and_an_other_length_is_not_gone_on_with(folder: Path) -> None:
    found = tiny("critic")
    plan, arm = found.plan, found.arms[0]
    _sft(folder, plan, COMMIT)
    place = folder / plan.name / "under way" / runs.file_name(arm, 1)
    left = Run.open(recipe_of(plan, arm, Run.reopen(folder / "base").recipe, 1, 9), place)
    (left.folder / "rl").mkdir()
    first, again = (run(folder, plan, COMMIT, arm, seed=1, num_steps=2) for _ in range(2))
    for result in (first, again):
        result["models"][RL].pop("seconds")
        result["course"] = [[row.get(name) for name in EXACT] for row in result["course"]]
    assert first == again
    assert all(None not in row for row in first["course"])
    assert not place.exists()
    assert first["arm"] == asdict(arm)
    assert [look["step"] for look in first["judged"]] == [1, 2], "four looks in two steps are one at each"
    last = first["judged"][-1]
    assert last["known"]["num_pairs"] == KNOWN_PAIRS
    assert 0 <= last["reward"] <= 1
    scores = first["models"][RL]["scores"]
    assert all(at.keys() == {str(GREEDY), str(SAMPLED)} for at in scores.values())
    assert all(len(each["scores"]) == 3 for at in scores.values() for each in at.values())
    hidden = [at[str(SAMPLED)]["scores"] for name, at in scores.items() if name.startswith("writing/")]
    assert last["score"] == pytest.approx(statistics.mean(score for some in hidden for score in some), abs=1e-4)


def test_the_sft_model_is_as_good_as_itself(folder: Path) -> None:
    told = _sft(folder, tiny("critic").plan, COMMIT)
    assert told["judged"]["step"] == 0
    assert told["judged"]["reward"] == told["judged"]["reward_by_sft"] == 0.5


@pytest.mark.slow
def test_the_control_learns_for_as_long_as_rl_did(folder: Path) -> None:
    found = tiny("lift", 3)
    sft = _sft(folder, found.plan, COMMIT)
    assert list(sft["scores"]["tools/demonstrated"]) == ["0.0", "0.3", "0.5", "0.7", "1.0"]
    result = run(folder, found.plan, COMMIT, found.arms[0], seed=0, num_steps=3)
    assert result["models"].keys() == {RL, CONTROL}
    steps = read_metrics(folder / "base" / "sft" / "metrics.jsonl")
    a_step = steps[-1]["seconds"] / len(steps)
    assert result["models"][CONTROL]["demonstration_loss"] != result["models"][RL]["demonstration_loss"]
    assert result["models"][RL]["seconds"] == result["course"][-1]["seconds"] > a_step


def test_rollouts_wait_for_a_service_and_none_breaks(folder: Path) -> None:
    found = tiny("partial")
    plan = replace(found.plan, slow_tools=Latency(median=0.2, sigma=0.0))
    _sft(folder, plan, COMMIT)
    result = run(folder, plan, COMMIT, found.arms[0], seed=0, num_steps=2)
    assert not [name for row in result["course"] for name in row if name.startswith("dropped/env")]
    assert sum(row.get("rollouts/tools", 0) for row in result["course"]) > 0
    measured = {measure.words: measure.of({**result, "model": result["models"][RL]}) for measure in found.measures}
    kept = sum(value for row in result["course"] for name, value in row.items() if name.startswith("rollouts/"))
    assert measured["finished rollouts an hour"] == pytest.approx(kept / result["course"][-1]["seconds"] * 3600)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_goes_on_where_it_stopped_and_leaves_a_report(name: str, recipe: Recipe, folder: Path) -> None:
    found = tiny(name)
    found = replace(found, arms=found.arms[:2])
    said: list[str] = []
    sft, results = study(folder, recipe, found.plan, found.arms, num_seeds=2, say=said.append)
    assert len(results) == 2 * len(found.arms)
    kept = folder / name / f"{runs.file_name(found.arms[0], 1)}.json"
    kept.unlink()
    said.clear()
    again = study(folder, recipe, found.plan, found.arms, num_seeds=2, say=said.append)[1]
    assert said[0].startswith(f"{len(results) - 1} of {len(results)} runs are there already")
    assert len(said) == 2
    assert [result["arm"] for result in again] == [result["arm"] for result in results]
    text = write_report(found, sft, results, folder, PROVENANCE)
    assert (folder / f"study-rl-{name}.md").read_text() == text
    assert (folder / f"study-rl-{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((folder / f"study-rl-{name}.json").read_text())["claim"] == found.claim


# -- the report -------------------------------------------------------------------------------

TASKS = 4


def by_hand(arm: Arm, seed: int, gains: dict[str, float]) -> dict[str, Any]:
    """A run in which a family's tasks score so much more than the SFT model's 0.25."""
    course = [
        {"step": step, "seconds": 30.0 * step, "reward": 0.1 * step, "grad_norm": 1.0 + seed, "rollouts/tools": 8.0,
         "rollouts/math": 2.0, "idle_share": 0.1, "staleness": 1.0, "mixed_groups": 0.5, "log_ratio": 0.0, "capped": 0.0}
        for step in (1, 2)
    ]  # fmt: skip
    return {
        "arm": asdict(arm), "seed": seed, "num_steps": 2, "made": {}, "course": course,
        "models": {name: model(0.25 + gain) for name, gain in gains.items()},
        "judged": [{"step": 2, **critic(0.6 + 0.1 * seed)}],
    }  # fmt: skip


def model(score: float, temperatures: tuple[float, ...] = (GREEDY, SAMPLED)) -> dict[str, Any]:
    at = {str(each): {"scores": [score + 0.01 * i for i in range(TASKS)], "tokens": 10.0} for each in temperatures}
    sets = {f"{family}/{kinds}": at for family in ("tools", "math") for kinds in ("demonstrated", "undemonstrated")}
    return {"scores": sets, "demonstration_loss": 1.5, "bits_per_byte": 2.0, "seconds": 60.0}


def critic(accuracy: float) -> dict[str, Any]:
    measured = {"accuracy": accuracy, "calibration_error": 0.1, "overconfidence": 0.05, "contradictions": 0.2}
    return {"known": measured, "reward": 0.5, "reward_by_sft": 0.5, "score": 0.3}


def rows_of(text: str) -> dict[str, str]:
    return {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}


def test_the_report_pairs_seeds_with_the_first_arm(tmp_path: Path) -> None:
    found = STUDIES["critic"]
    gaps = {found.arms[0].name: (0.2, 0.25), found.arms[1].name: (0.1, 0.2), found.arms[2].name: (0.2, 0.25)}
    results = [by_hand(arm, seed, {RL: gaps[arm.name][seed]}) for arm in found.arms for seed in (1, 0)]
    sft = model(0.25) | {"judged": {"step": 0, **critic(0.5)}}
    text = write_report(found, sft, results, tmp_path, PROVENANCE)
    stored = json.loads((tmp_path / "study-rl-critic.json").read_text())
    first, second, _ = stored["arms"]
    assert first["measures"]["accuracy, known flaws"]["values"] == pytest.approx([0.6, 0.7])
    assert first["measures"]["accuracy, fresh pairs"] is None
    told = stored["sets"]["tools/undemonstrated, T = 1"]
    assert told["SFT"] == pytest.approx(0.265)
    gap = t_interval([-0.1, -0.05])
    assert told["arms"]["known flaws alone"]["over_first"] == pytest.approx(gap.value)
    assert told["arms"]["known flaws alone"]["over_first_ci95"] == pytest.approx([gap.low, gap.high])
    assert second["compared_with"] == found.arms[0].name
    assert stored["courses"]["Accuracy, known flaws"]["closed loop"] == [[[2, 0.6]], [[2, 0.7]]]
    rows = rows_of(text)
    assert rows["SFT"].startswith("| SFT | 50.0 | 10.0 | 5.0 | 20.0 |  |")
    assert "| 26.5 | 49.0 | 41.5 (-7.5 [-39.3, +24.3]; [-7.5, -7.5]) | 49.0 |" in rows["tools/undemonstrated, T = 1"]
    assert found.claim in text


def test_finished_rollouts_are_counted_by_the_hour(tmp_path: Path) -> None:
    found = STUDIES["partial"]
    results = [by_hand(arm, seed, {RL: 0.0}) for arm in found.arms for seed in (0, 1)]
    for result in results:
        if result["arm"]["name"] != found.arms[0].name:  # as long, and a quarter: the mean of ratios would be more
            result["course"][-1]["seconds"] = 60.0 if result["seed"] else 15.0
    text = write_report(found, model(0.25), results, tmp_path, PROVENANCE)
    first, second, _ = json.loads((tmp_path / "study-rl-partial.json").read_text())["arms"]
    assert first["measures"]["finished rollouts an hour"]["mean"] == 1200
    assert second["measures"]["finished rollouts an hour"]["mean"] == 3000
    assert second["measures"]["finished rollouts an hour"]["times_first"] == pytest.approx(2)
    assert rows_of(text)["2x in flight"].startswith("| 2x in flight | 3,000 (×2.00 [")


def test_the_lift_is_paired_over_tasks_and_over_seeds_and_names_what_moved(tmp_path: Path) -> None:
    found = STUDIES["lift"]
    ours, theirs = (0.30, 0.32, 0.31), (0.05, 0.06, 0.04)
    results = [by_hand(found.arms[0], seed, {RL: ours[seed], CONTROL: theirs[seed]}) for seed in range(3)]
    for result in results:  # one family that nothing moved
        for each in result["models"].values():
            each["scores"]["math/demonstrated"] = model(0.25)["scores"]["math/demonstrated"]
    sft = model(0.25, (GREEDY, 0.3, 0.5, 0.7, SAMPLED))
    text = write_report(found, sft, results, tmp_path, PROVENANCE)
    stored = json.loads((tmp_path / "study-rl-lift.json").read_text())
    assert [row["arm"] for row in stored["arms"]] == [CONTROL, RL]
    rows = {(row["set"], row["at"]): row for row in stored["lift"]}
    moved = rows["tools/undemonstrated", "T = 1"]
    seeds, tasks = t_interval([0.25, 0.26, 0.27]), mean_interval([0.26] * TASKS, seed=0)
    assert moved["verdict"] == "rose"
    assert moved["over_control"]["over_seeds"] == pytest.approx([seeds.low, seeds.high])
    assert moved["over_control"]["over_tasks"] == pytest.approx([tasks.low, tasks.high])
    assert moved["over_SFT"]["mean"] == pytest.approx(0.31)
    assert rows["math/demonstrated", "greedy"]["verdict"] == "not apart"
    assert stored["temperatures"][0]["SFT"].keys() == {"0.0", "0.3", "0.5", "0.7", "1.0"}
    assert "| tools/undemonstrated, T = 1 | 26.5 | 31.5 | 57.5 |" in text
    assert "| held-out tasks | SFT, T = 0.0 | SFT, T = 0.3 |" in text


# -- bad input --------------------------------------------------------------------------------


def test_recipes_that_cannot_be_studied_and_studies_too_small_get_one_line(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recipe.rl is not None
    plan, arms = STUDIES["critic"].plan, STUDIES["critic"].arms
    for changed, words in (
        ({"rl": None}, r"recipe tiny has no \[rl\]"),
        ({"sft": None}, r"recipe tiny has no \[sft\]"),
        ({"rl": recipe.rl.model_copy(update={"critic": None})}, r"recipe tiny has no \[rl.critic\]: study rl-critic"),
    ):
        with pytest.raises(ValueError, match=words):
            study(tmp_path, recipe.model_copy(update=changed), plan, arms, num_seeds=2)
    for argv, line in (
        (["--seeds", "1"], "--seeds 1: it takes 2 at least"),
        (["--steps", "0"], "--steps 0: it takes 1 at least"),
        (["--rl.stepz", "3"], "--rl.steps"),
        (["--recipe", str(tmp_path / "none.toml")], "none.toml"),
    ):
        assert cli.main(["study", "rl-ptx", "--out", str(tmp_path), *argv]) == 2
        error = capsys.readouterr().err
        assert line in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_another_shape_is_refused(folder: Path, recipe: Recipe) -> None:
    found = tiny("ptx")
    plan = Plan("bent", 2, num_tasks=3)
    (folder / "bent").mkdir(exist_ok=True)
    (folder / "bent" / f"{runs.file_name(found.arms[0], 0)}.json").write_text('{"arm": {}, "seed": 0, "num_steps": 2}')
    with pytest.raises(ValueError, match=r"0-seed-0\.json is no result of this study \(course: Field required\)"):
        study(folder, recipe, plan, found.arms, num_seeds=2)


def test_results_that_were_made_otherwise_are_refused(folder: Path, recipe: Recipe) -> None:
    """By another recipe, from another SFT model, or measured otherwise; by other code they stay."""
    plan, arms = Plan("elsewhere", 2, num_tasks=3), tiny("ptx").arms
    made = _made(
        fingerprint(Run.reopen(folder / "base").model_after("sft")), recipe_of(plan, arms[0], recipe, 0, 2), plan
    )
    path = folder / "elsewhere" / f"{runs.file_name(arms[0], 0)}.json"
    kept = {"arm": asdict(arms[0]), "seed": 0, "num_steps": 2, "course": [], "models": {}, "judged": []}
    for other in ({"sft": "another"}, {"recipe": "another"}, {"num_tasks": 4}):
        write_json(path, {**kept, "made": {"commit": "earlier", **made, **other}})
        words = rf"0-seed-0\.json was made otherwise \({next(iter(other))} differ\): take another --out, or remove it"
        with pytest.raises(ValueError, match=words):
            study(folder, recipe, plan, arms, num_seeds=2)
    write_json(path, {**kept, "made": {"commit": "earlier", **made}})
    _refuse_other(path, arms[0], 2, made)
    write_json(path, {**kept, "num_steps": 9, "made": {}})
    _refuse_other(path, arms[0], 2, made)  # it will be run anew
    path.unlink()


def test_what_other_code_left_half_done_is_begun_anew(folder: Path) -> None:
    found, base = tiny("objective"), Run.reopen(folder / "base")
    recipe, place = recipe_of(found.plan, found.arms[0], base.recipe, 0, 2), folder / "half done"
    for made, stays in (({"commit": "one"}, False), ({"commit": "one"}, True), ({"commit": "two"}, False)):
        _room(place, base, recipe, made)
        assert (place / "left").exists() == stays
        (place / "left").touch()
