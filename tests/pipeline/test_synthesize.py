"""``openk2 synthesize``: records, and beside them a card and parquet that other libraries load."""

from __future__ import annotations

import asyncio
import json
import statistics
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from openk2.cli import main
from openk2.jobs import jsonl
from openk2.sandbox.enclosure import enclosure
from openk2.view.trajectories.sources import Table
from openk2.worlds.execution.record import replays
from openk2.worlds.scenario.synthesize import FUNNEL, KEPT, REJECTED, SynthesisConfig, execution_task, scenario_of
from openk2.worlds.scenario.write import ScenarioConfig
from tests.llm.server import ChatServer
from tests.sandbox.conftest import why_no_box
from tests.worlds.endpoint.players import Players

RECIPE = 'name = "small"\nnum_tasks = 40\ntrajectories_per_task = 2\nexecutor = "here"\n'


def run(folder: Path, recipe: str, *flags: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.toml").write_text(recipe)
    return main(["synthesize", str(folder / "small.toml"), "--run", str(folder / "out"), *flags])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthesize")
    assert run(folder, RECIPE) == 0
    return folder / "out"


def test_the_card_tells_the_figures_of_the_records(out: Path) -> None:
    kept, rejected = list(jsonl.read(out / KEPT)), list(jsonl.read(out / REJECTED))
    text = (out / "README.md").read_text()
    calls = [len(record["calls"]) for record in kept]
    told = f"{statistics.mean(calls):.1f} / {statistics.median(calls):g} / {max(calls)}"
    assert f"| calls of a trajectory: mean / median / most | {told} |" in text
    assert f"| tasks | {len({record['id'].split('#')[0] for record in kept})} |" in text
    assert f"| apps | {len({app for record in kept for app in record['agent']['apps']})} |" in text
    faults = [call["fault"] for record in kept for call in record["calls"] if call["fault"]]
    assert faults
    for fault in set(faults):
        assert f"| calls met by the fault {fault} | {faults.count(fault)} |" in text
    funnel = json.loads((out / FUNNEL).read_text())
    assert f"| judge | {funnel['judge']['kept']} | {funnel['judge']['rejected']} |" in text
    assert f"| rejects | {len(rejected)} | 0 |" in text
    assert "not a language model" in text
    assert "Licences: apache-2.0." in text


def test_the_parquet_twin_holds_the_very_records(out: Path) -> None:
    found = {record.id: record.to_json() for file in (out / "parquet").iterdir() for record, _ in Table(file).scan()}
    for record in (*jsonl.read(out / KEPT), *jsonl.read(out / REJECTED)):
        assert found.pop(record["id"]) == record
    assert not found


def test_the_header_is_yaml_and_names_the_files(out: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="no PyYAML")
    header = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    assert header["license"] == "apache-2.0"
    files = {file["split"]: file["path"] for file in header["configs"][0]["data_files"]}
    assert set(files) == {"train", "rejects"}
    assert all((out / file).is_file() for file in files.values())


def test_datasets_loads_the_folder(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets", reason="no datasets: pip install datasets")
    data = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    kept: list[dict[str, Any]] = list(jsonl.read(out / KEPT))
    assert [dict(row) for row in data] == [{name: record.get(name) for name in data.column_names} for record in kept]


def test_a_longer_run_makes_card_and_twin_anew(tmp_path: Path) -> None:
    assert run(tmp_path, RECIPE, "--num_tasks", "5") == 0
    before = (tmp_path / "out" / "README.md").read_text()
    assert run(tmp_path, RECIPE, "--num_tasks", "9", "--license", "cc0-1.0") == 0
    after = (tmp_path / "out" / "README.md").read_text()
    assert before != after
    assert 'license: "cc0-1.0"' in after
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["README.md", "config.json", FUNNEL, "parquet", REJECTED, KEPT]
    )


def test_an_endpoint_swaps_in_by_one_line(tmp_path: Path) -> None:
    config = SynthesisConfig(scenario=ScenarioConfig(share_long=0))
    players = Players(scenario_of(config, index) for index in range(6))
    with ChatServer(players) as server:
        line = f'endpoint = {{ base_url = "{server.base_url}", model = "by-rule", plays = ["users", "teacher"] }}\n'
        recipe = RECIPE + line + "[scenario]\nshare_long = 0.0\n"
        assert run(tmp_path, recipe, "--num_tasks", "6") == 0
    assert any(True for _ in jsonl.read(tmp_path / "out" / KEPT))
    text = (tmp_path / "out" / "README.md").read_text()
    assert "by-rule played users, teacher" in text
    assert "users endpoint, teacher endpoint, judge program, model by-rule" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('endpoint = { base_url = "ftp://x", model = "m" }', "endpoint.base_url"),
        ('endpoint = { base_url = "http://x" }', "endpoint.model: missing"),
        ('endpoint = { base_url = "http://x", model = "m", plays = ["god"] }', "endpoint.plays"),
        ('endpoint = { base_url = "http://x", model = "m", api_key_env = "NO_SUCH_KEY" }', "NO_SUCH_KEY is not set"),
    ],
)
def test_a_bad_endpoint_is_said_in_one_line(
    line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, RECIPE + line + "\n") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


EXECUTION = 'name = "small"\nexecution = ["folder", "database"]\nnum_tasks = 6\nsloppiness = 0.5\nexecutor = "here"\n'


@pytest.mark.skipif(bool(why_no_box()), reason=why_no_box())
def test_tasks_that_really_run_make_a_dataset_too_and_a_cut_run_ends_the_same(tmp_path: Path) -> None:
    assert run(tmp_path, EXECUTION) == 0
    out = tmp_path / "out"
    kept, rejected = list(jsonl.read(out / KEPT)), list(jsonl.read(out / REJECTED))
    assert len(kept) + len(rejected) == 24
    assert {record["reason"] for record in rejected} <= {"missed state", "missed fact", "missed fact + state"}
    assert json.loads((out / FUNNEL).read_text())["judge"] == {
        "kept": len(kept),
        "rejected": len(rejected),
        "reasons": dict(Counter(record["reason"] for record in rejected).most_common()),
    }
    tasks = {record["id"].partition("#")[0] for record in kept}
    assert f"| tasks | {len(tasks)} |" in (out / "README.md").read_text()
    config = SynthesisConfig.model_validate(tomllib.loads(EXECUTION))
    assert asyncio.run(replays(kept[-1], execution_task(config, 5)))
    whole = (out / KEPT).read_bytes()
    (out / KEPT).write_bytes(whole[: len(whole) // 2])
    assert run(tmp_path, EXECUTION) == 0
    assert (out / KEPT).read_bytes() == whole
    assert list(jsonl.read(out / REJECTED)) == rejected


def test_without_bubblewrap_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    enclosure.cache_clear()
    try:
        assert run(tmp_path, EXECUTION) == 2
    finally:
        enclosure.cache_clear()
    assert "bubblewrap is not installed: sudo apt install bubblewrap" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_endpoint_has_no_part_in_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = 'endpoint = { base_url = "http://127.0.0.1:1/v1", model = "any" }\n'
    assert run(tmp_path, EXECUTION + endpoint) == 2
    assert "endpoint: it plays no part in execution's tasks" in capsys.readouterr().err
