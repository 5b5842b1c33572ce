"""The synthesis study, with a tiny model and few steps; what it finds at full length stands in results/."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openk2 import cli, pipeline
from openk2.gym.families import tasks
from openk2.pipeline.folder import Run
from openk2.recipe import Recipe
from openk2.schema import JSON
from openk2.stats import t_interval
from openk2.studies.synthesis import (
    ARMS,
    FILTERED,
    REFERENCE,
    TASK_SETS,
    UNFILTERED,
    Arm,
    run,
    solved_share,
    study,
    trajectories,
    worlds_of,
)
from openk2.studies.synthesis_report import PANELS, write_report
from openk2.worlds.config import WorldsConfig
from openk2.worlds.simulator import FAULT
from tests.pipeline.conftest import write_recipe

PROVENANCE = {"commit": "abc", "machine": "here", "torch": "2", "date": "today", "python": "3"}
WORLDS = WorldsConfig()


def arm(name: str) -> Arm:
    """Of the study, with few trajectories."""
    return replace(next(arm for arm in ARMS if arm.name == name), trajectories=80)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe.load(write_recipe(tmp_path_factory.mktemp("recipes") / "tiny.toml"))


@pytest.fixture(scope="module")
def folder(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder that has its base model."""
    folder = tmp_path_factory.mktemp("study")
    pipeline.run_stage("pretrain", recipe, folder / "base")
    return folder


# -- what arms learn from ---------------------------------------------------------------------


def test_only_the_unfiltered_arm_learns_from_failures(tmp_path: Path) -> None:
    kept = trajectories(arm(FILTERED), 0, WORLDS, tmp_path / "filtered")
    every = trajectories(arm(UNFILTERED), 0, WORLDS, tmp_path / "unfiltered")
    assert len(kept) == len(every) == 80
    assert all(record["score"] == 1.0 for record in kept)
    failed = [record for record in every if record["score"] < 1.0]
    assert 0.25 < len(failed) / len(every) < 0.5  # the teacher errs in 0.4
    assert all(record["messages"] for record in failed)
    assert [record["task_id"] for record in every] == [f"train-{index:06d}" for index in range(80)]
    assert worlds_of(arm(FILTERED), 0, WORLDS) == worlds_of(arm(UNFILTERED), 0, WORLDS)


def test_arms_of_few_apps_hold_these_alone_and_other_seeds_others(tmp_path: Path) -> None:
    for seed in range(3):
        records = trajectories(arm("3 apps"), seed, WORLDS, tmp_path / str(seed))
        assert {record["app"] for record in records} == set(worlds_of(arm("3 apps"), seed, WORLDS).demonstrated)
    windows = [worlds_of(arm("3 apps"), seed, WORLDS).demonstrated for seed in range(3)]
    assert [len(set(window)) for window in windows] == [3, 3, 3]
    assert {app for window in windows for app in window} == set(WORLDS.demonstrated)
    [app] = worlds_of(arm("1 app"), 8, WORLDS).demonstrated
    assert {r["app"] for r in trajectories(arm("1 app"), 8, WORLDS, tmp_path / "one")} == {app}


def test_faults_strike_as_often_as_the_arm_says(tmp_path: Path) -> None:
    def share(name: str) -> float:
        records = trajectories(arm(name), 0, WORLDS, tmp_path / name)
        return sum(any(FAULT in str(message) for message in record["messages"]) for record in records) / len(records)

    assert share("no faults") == 0.0
    assert 0.0 < share(REFERENCE) < share("more faults")


def test_fewer_trajectories_are_the_first_of_more_and_a_seed_has_its_own(tmp_path: Path) -> None:
    more = trajectories(arm(REFERENCE), 0, WORLDS, tmp_path / "more")
    fewer = trajectories(replace(arm("125 trajectories"), trajectories=25), 0, WORLDS, tmp_path / "fewer")
    assert fewer == more[:25]
    other = trajectories(arm(REFERENCE), 1, WORLDS, tmp_path / "other")
    assert not {str(record["messages"]) for record in more} & {str(record["messages"]) for record in other}


KEY_OR_DATE = re.compile(r"\b(?:[A-Z]{1,2}-[0-9]{2,3}|[0-9]{3}[A-Z]|[0-9]{4}-[0-9]{2}-[0-9]{2})\b")


def test_no_key_or_date_of_a_heldout_task_is_in_a_trajectory(tmp_path: Path) -> None:
    learnt: set[str] = set()
    for name in (REFERENCE, "1 app"):
        for record in trajectories(arm(name), 0, WORLDS, tmp_path / name):
            learnt.update(KEY_OR_DATE.findall(str(record["messages"])))
    held: set[str] = set()
    for task_set in TASK_SETS.values():
        for task in tasks("tools", WORLDS, task_set.split)[:50]:
            held.update(KEY_OR_DATE.findall(json.dumps(task.payload["rows"])))
    assert len(learnt) > 100
    assert len(held) > 100
    assert not learnt & held


def test_too_few_that_pass_is_said_in_one_line(tmp_path: Path) -> None:
    hopeless = Arm("hopeless", trajectories=3, worlds={"sloppiness": 0.0, "fault_rate": 0.0})
    empty = WORLDS.model_copy(update={"demonstrated": ("nowhere",)})
    with pytest.raises(ValueError, match=r"arm hopeless: 24 tasks gave 0 trajectories, not 3"):
        trajectories(hopeless, 0, empty, tmp_path)


# -- runs -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_repeats_to_the_bit_and_leaves_nothing_else(folder: Path) -> None:
    first, second = (run(folder, arm(REFERENCE), seed=1, num_steps=3) for _ in range(2))
    assert first == second
    assert len(first["loss"]) == 3
    assert first["solved"].keys() == TASK_SETS.keys()
    assert first["epochs"] > 0
    assert list((folder / "under way").iterdir()) == []
    other = run(folder, arm(UNFILTERED), seed=1, num_steps=3)
    assert other["loss"] != first["loss"]
    assert run(folder, arm(REFERENCE), seed=2, num_steps=1)["loss"] != first["loss"][:1]


def test_every_first_call_fails_where_the_set_says_so(folder: Path, tmp_path: Path) -> None:
    """And all arms meet the same worlds: those of the base's recipe."""
    base = Run.reopen(folder / "base")
    seen: dict[str, list[JSON]] = {}
    for name, each in TASK_SETS.items():
        solved_share(base.model_after("pretrain"), base, tmp_path / name, each)
        seen[name] = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    assert {t["task_id"] for t in seen["heldout"]} == {t["task_id"] for t in seen["every_first_call_fails"]}
    assert all(trace["task_id"].startswith("unseen_domain") for trace in seen["unseen_domain"])
    assert not any(FAULT in str(trace["messages"]) for trace in seen["without_faults"])


@pytest.mark.slow
def test_a_study_goes_on_where_it_stopped_and_leaves_a_report(recipe: Recipe, tmp_path: Path) -> None:
    few = [arm(REFERENCE), arm("1 app")]
    said: list[str] = []
    results = study(tmp_path, recipe, num_seeds=2, arms=few, say=said.append)
    assert len(results) == 4
    assert said[0].startswith("[1/4] ")
    (tmp_path / "1-app-seed-1.json").unlink()
    said.clear()
    assert study(tmp_path, recipe, num_seeds=2, arms=few, say=said.append) == results
    assert said[0].startswith("3 of 4 runs are there already")
    assert len(said) == 2
    write_report(results, tmp_path, PROVENANCE)
    assert (tmp_path / "study-synthesis.png").read_bytes()[:4] == b"\x89PNG"
    other = recipe.model_copy(update={"seed": 5})
    with pytest.raises(ValueError, match=r"belongs to another recipe \(it differs in seed: 0 there, 5 here\)"):
        study(tmp_path, other, num_seeds=2, arms=few)


def test_a_recipe_without_sft_and_a_study_too_small_get_one_line(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"recipe tiny has no \[sft\]"):
        study(tmp_path, recipe.model_copy(update={"sft": None}), num_seeds=2)
    for argv, line in (
        (["--seeds", "1"], "--seeds 1: it takes 2 at least"),
        (["--sft.step", "3"], "--sft.step"),
        (["--recipe", str(tmp_path / "none.toml")], "none.toml"),
    ):
        assert cli.main(["study", "synthesis", "--out", str(tmp_path), *argv]) == 2
        error = capsys.readouterr().err
        assert line in error
        assert error.count("\n") == 1


# -- the report -------------------------------------------------------------------------------

SOLVED = {REFERENCE: (0.30, 0.34, 0.38), FILTERED: (0.20, 0.22, 0.24), UNFILTERED: (0.15, 0.14, 0.19)}


def by_hand(name: str, seed: int, share: float) -> dict[str, Any]:
    solved = {task_set: share + 0.01 * i for i, task_set in enumerate(TASK_SETS)}
    told = {"name": name, "trajectories": 80, "num_apps": None, "filtered": True, "worlds": {}}
    return {"arm": told, "seed": seed, "num_steps": 2, "epochs": 1.5, "loss": [2.0, 1.0], "solved": solved}


def test_the_report_pairs_seeds_and_compares_unfiltered_with_filtered(tmp_path: Path) -> None:
    results = [by_hand(name, seed, share) for name, shares in SOLVED.items() for seed, share in enumerate(shares)]
    text = write_report(results, tmp_path, PROVENANCE)
    stored = {row["arm"]["name"]: row for row in json.loads((tmp_path / "study-synthesis.json").read_text())["arms"]}
    heldout = stored[UNFILTERED]["sets"]["heldout"]
    gap = t_interval([-0.05, -0.08, -0.05])
    assert heldout["over_reference"] == pytest.approx(gap.value)
    assert heldout["over_reference_ci95"] == pytest.approx([gap.low, gap.high])
    assert stored[FILTERED]["sets"]["unseen_domain"]["over_reference"] == pytest.approx(-0.12)
    assert stored[UNFILTERED]["reference"] == FILTERED
    assert stored[FILTERED]["reference"] == stored[REFERENCE]["reference"] == REFERENCE
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert f"| {FILTERED} | 16.0 (-6.0 [-10.3, -1.7]) |" in rows[UNFILTERED]
    assert rows[REFERENCE] == f"| {REFERENCE} | 1.5 |  | 34.0 | 35.0 | 36.0 | 37.0 |"


def test_every_arm_has_its_place_in_the_picture() -> None:
    assert {name for panel in PANELS for name in panel.arms} == {arm.name for arm in ARMS}
    assert {task_set for panel in PANELS for task_set in panel.sets} == TASK_SETS.keys()
