from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from openk2.cli import main
from openk2.view.trajectories.record import Trajectory, check
from openk2.view.trajectories.story import story
from openk2.view.trajectories.text import render_trajectory
from tests.view.trajectories.conftest import Made


def shown(trajectory: Trajectory) -> str:
    out = io.StringIO()
    Console(file=out, width=160, color_system=None).print(render_trajectory(trajectory))
    return out.getvalue()


def test_it_reads_in_order(made: Made) -> None:
    record = next(
        r for r in made.rejected if any(c["fault"] for c in r["calls"]) and any(c["changes"] for c in r["calls"])
    )
    text = shown(check(record, "x"))
    change = next(change for called in record["calls"] for change in called["changes"])
    parts = [record["id"], record["agent"]["role"], record["messages"][0]["content"], "fault: temporary failure, retry"]
    parts += [f"± {change['app']} {change['entity']} {change['key']} {change['field']}:", "rejected at judge: missed"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    for name, value in record["score"]["parts"].items():
        assert f"{'✓' if value else '✗'} {name}" in text


def test_calls_meet_their_results_changes_and_faults(made: Made) -> None:
    for record in made.all:
        told = story(check(record, "x"))
        calls = [call for turn in told["turns"] for call in turn["calls"]]
        assert [call["name"] for call in calls] == [called["name"] for called in record["calls"]]
        assert [call["fault"] for call in calls] == [called["fault"] for called in record["calls"]]
        assert [len(call["changes"]) for call in calls] == [len(called["changes"]) for called in record["calls"]]
        assert [json.loads(call["result"]) for call in calls] == [called["result"] for called in record["calls"]]
        assert told["without_turn"] == []
        assert "tool" not in {turn["role"] for turn in told["turns"]}


def test_what_was_executed_without_a_turn_is_told_apart(made: Made) -> None:
    record = json.loads(json.dumps(made.kept[0]))
    record["calls"].append({"name": "stray", "arguments": {}, "result": "x", "fault": None, "changes": []})
    record["messages"].append({"role": "tool", "content": "nobody asked", "tool_call_id": "unknown"})
    told = story(check(record, "x"))
    assert [call["name"] for call in told["without_turn"]] == ["stray"]
    assert told["turns"][-1] == {"role": "tool", "content": "nobody asked", "calls": []}


def test_a_terminal_is_not_steered() -> None:
    text = shown(check({"id": "a", "messages": [{"role": "user", "content": "[red]\x1b[2J\x07\x9bhi\r"}]}, "x"))
    assert "[red]␛[2J␇\N{REPLACEMENT CHARACTER}hi␍" in text
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(text)


def test_the_verb_prints_one(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(made.folder), "--text"]) == 0
    assert made.kept[0]["id"] in capsys.readouterr().out
    assert main(["view", str(made.folder), "--text", made.rejected[-1]["id"]]) == 0
    assert made.rejected[-1]["messages"][0]["content"] in " ".join(capsys.readouterr().out.split())


def test_mistakes_get_a_line(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text("{}\n")
    for argv, words in (
        ([str(tmp_path / "bad.jsonl")], "bad.jsonl:1: id: Field required"),
        ([str(made.folder), "--text", "nobody"], "holds no trajectory 'nobody'; its first is"),
        ([str(made.folder), "--port", "70000"], "--port 70000: a port lies between 0 and 65535"),
        ([str(tmp_path)], "holds neither trajectories.jsonl nor"),
    ):
        assert main(["view", *argv]) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("openk2: ")]
        assert len(said) == 1
        assert words in said[0]
