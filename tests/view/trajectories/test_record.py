from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openk2.view.trajectories.catalog import Catalog
from openk2.view.trajectories.record import parse
from openk2.view.trajectories.sources import Lines, open_sources
from tests.view.trajectories.conftest import Made

GOOD: dict[str, Any] = {"id": "a", "messages": [{"role": "user", "content": "hi"}], "tools": []}


def call(arguments: object) -> dict[str, Any]:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    return {**GOOD, "messages": [{"role": "assistant", "content": "", "tool_calls": calls}]}


def test_a_record_comes_back_as_it_was_read(made: Made) -> None:
    for record in made.all:
        assert parse(json.dumps(record), "x").to_json() == record
    assert parse(json.dumps({**GOOD, "mine": [1]}), "x").to_json() == {**GOOD, "mine": [1]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "a trajectory is a JSON object, this is a list"),
        ('{"id": NaN}', "NaN is no JSON number"),
        (json.dumps({"messages": []}), "id: Field required"),
        (json.dumps({"id": "a"}), "there are no messages, and no stage"),
        (json.dumps({**GOOD, "id": "a\ud800"}), r"an id is printable text on one line, not 'a\ud800'"),
        (json.dumps(call({"x": 1})), "messages.0.tool_calls.0.function.arguments: Input should be a valid string"),
        (json.dumps({**GOOD, "messages": [{"role": "robot"}]}), "messages.0.role: Input should be 'system', 'user'"),
        (json.dumps({**GOOD, "score": {"total": 2}}), "score.total: Input should be less than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        Catalog(open_sources(path))
    assert str(error.value).startswith(f"{path}:3: ")
    assert "\n" not in str(error.value)


def test_paths_that_hold_no_trajectories(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    for name, words in (
        ("gone", "no such file or folder"),
        ("", "holds neither trajectories.jsonl nor"),
        ("notes.txt", "ends in .jsonl or .parquet"),
        ("empty.jsonl", "there is no trajectory in it"),
        ("torn.parquet", "torn.parquet: not a parquet file"),
    ):
        with pytest.raises(ValueError, match=words):
            Catalog(open_sources(tmp_path / name))


def test_an_id_is_there_once(tmp_path: Path) -> None:
    (tmp_path / "trajectories.jsonl").write_text(json.dumps(GOOD) + "\n")
    (tmp_path / "rejects.jsonl").write_text(json.dumps({"id": "a", "stage": "task", "reason": "x"}) + "\n")
    with pytest.raises(ValueError, match=r"rejects.jsonl: the id 'a' is taken"):
        Catalog(open_sources(tmp_path))


def test_a_torn_last_line_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "growing.jsonl"
    path.write_text(json.dumps(GOOD) + '\n{"id": "b", "mess')
    assert Catalog(open_sources(path)).ids == ["a"]
    assert f"{path}:2: left out a torn last line" in caplog.text


def test_lines_are_found_again_by_number(made: Made) -> None:
    lines = Lines(made.folder / "trajectories.jsonl")
    assert sum(taken for _, taken in lines.scan()) == lines.size
    for number in (0, len(made.kept) // 2, len(made.kept) - 1):
        assert lines.record(number).to_json() == made.kept[number]


def test_a_file_that_changed_is_not_misread(tmp_path: Path) -> None:
    path = tmp_path / "moved.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "id": "b"}) + "\n")
    catalog = Catalog(open_sources(path))
    path.write_text(json.dumps({**GOOD, "id": "b"}) + "\n" + json.dumps(GOOD) + "\n")
    with pytest.raises(ValueError, match="has changed since"):
        catalog.record(0)
    path.write_text("x" * 400)
    with pytest.raises(ValueError, match="changed since it was opened"):
        catalog.record(1)


def test_parquet_with_nested_columns_reads_too(made: Made, tmp_path: Path) -> None:
    rows = [
        {name: record[name] for name in ("id", "messages", "tags", "agent", "stage", "reason")} for record in made.all
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "nested.parquet")
    catalog = Catalog(open_sources(tmp_path / "nested.parquet"))
    assert catalog.ids == [record["id"] for record in made.all]
    read = catalog.record(3)
    assert read.outcome == "not judged"
    assert [message.content for message in read.messages] == [message["content"] for message in rows[3]["messages"]]
    assert read.agent == rows[3]["agent"]
