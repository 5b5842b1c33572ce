from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from openk2.cli import main
from openk2.data.export.card import Census, card
from openk2.data.export.write import write_export
from openk2.jobs import jsonl
from openk2.view.trajectories.record import check
from openk2.view.trajectories.sources import Table
from tests.data.export.conftest import rows

Records = list[dict[str, Any]]


@pytest.mark.parametrize("form", ["openai", "trl", "llamafactory"])
def test_a_file_for_each_split_of_what_was_kept(
    source: Path, kept: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    out = tmp_path / "there"
    assert main(["export", str(source), "--to", form, str(out)]) == 0
    counts = Counter(record["split"] for record in kept)
    assert {path.stem: len(rows(path)) for path in out.glob("*.jsonl")} == counts
    assert f"{len(kept)} trajectories as {form}" in capsys.readouterr().out
    assert (out / "dataset_info.json").is_file() == (form == "llamafactory")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_parquet_holds_the_very_records(source: Path, kept: Records, rejected: Records, tmp_path: Path) -> None:
    write_export(source, tmp_path / "there", "parquet")
    found = {}
    for path in (tmp_path / "there").glob("*.parquet"):
        table = Table(path)
        found |= {record.id: record.to_json() for record, _ in table.scan()}
        for number in (0, table.size - 1):
            assert table.record(number).to_json() == found[table.record(number).id]
    for record in [*kept, *rejected]:
        assert found.pop(record["id"]) == {name: value for name, value in record.items() if value is not None}
    assert not found
    assert {path.stem for path in (tmp_path / "there").glob("*.parquet")} >= {"train", "rejects"}


def test_parquet_rows_come_in_small_groups(tmp_path: Path, kept: Records) -> None:
    many = [{**kept[i % len(kept)], "id": f"r{i}", "split": "train"} for i in range(1203)]
    jsonl.write(tmp_path / "many.jsonl", many)
    write_export(tmp_path / "many.jsonl", tmp_path / "there", "parquet")
    file = tmp_path / "there" / "train.parquet"
    assert pq.ParquetFile(file).num_row_groups == 3
    table = Table(file)
    for number in (0, 499, 500, 1202):
        assert table.record(number).id == f"r{number}"


def test_what_a_format_cannot_hold_is_counted(tmp_path: Path, kept: Records) -> None:
    odd = json.loads(json.dumps(kept[0])) | {"id": "odd"}
    odd["messages"][1]["content"] = "Let me see."
    jsonl.write(tmp_path / "some.jsonl", [*kept[:3], odd])
    line = write_export(tmp_path / "some.jsonl", tmp_path / "there", "llamafactory")
    assert "1 left out: a message has words beside its call" in line
    assert "| a message has words beside its call | 1 |" in (tmp_path / "there" / "README.md").read_text()


def test_mistakes_leave_nothing_behind(
    source: Path, kept: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jsonl.write(tmp_path / "far.jsonl", [kept[0], {**kept[1], "split": "../far"}])
    jsonl.write(tmp_path / "bad.jsonl", [kept[0], {**kept[1], "messages": 3}])
    jsonl.write(tmp_path / "none.jsonl", [{"id": "a", "stage": "task", "reason": "x"}])
    jsonl.write(tmp_path / "odd.jsonl", [{**kept[0], "colour": "red"}])
    before = sorted(tmp_path.iterdir())
    for name, form, words in (
        ("far.jsonl", "trl", "'../far' cannot be a split's name"),
        ("bad.jsonl", "trl", "bad.jsonl:2: messages: Input should be"),
        ("none.jsonl", "openai", "nothing can be written as openai: every record is a reject"),
        ("odd.jsonl", "parquet", "there is no column for colour"),
    ):
        assert main(["export", str(tmp_path / name), "--to", form, str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    assert main(["export", str(source), "--to", "trl", str(tmp_path)]) == 2
    assert "exists: name a folder that does not" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_the_card_counts_and_owns_up(source: Path, kept: Records, tmp_path: Path) -> None:
    write_export(source, tmp_path / "there", "openai")
    text = (tmp_path / "there" / "README.md").read_text()
    assert f"{len(kept)} tool-use trajectories; {len(kept)} of them passed" in text
    for kind, count in Counter(record["kind"] for record in kept).items():
        assert f"| {kind} | {count} |" in text
    assert f"| author scripted, version test, recipe tests | {len(kept)} |" in text
    assert "not a language model" in text
    assert "## Yield" in text
    assert "none is stated in the records" in text
    header = text.split("---\n")[1]
    assert 'license: "unknown"' in header
    assert '  - split: "train"\n    path: "train.jsonl"' in header


def test_the_cards_header_is_yaml(source: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="no PyYAML")
    write_export(source, tmp_path / "there", "openai")
    header = yaml.safe_load((tmp_path / "there" / "README.md").read_text().split("---\n")[1])
    assert header["configs"][0]["data_files"][0] == {"split": "train", "path": "train.jsonl"}
    assert header["size_categories"] == ["n<1K"]


def test_a_licence_in_the_records_is_the_cards() -> None:
    census = Census()
    message = {"role": "user", "content": "x"}
    for name, licence in (("a", "MIT"), ("b", "MIT")):
        census.add(check({"id": name, "messages": [message], "provenance": {"license": licence}}, "x"), "train")
    assert 'license: "mit"' in card("x", census, {"train": "train.jsonl"})


def test_a_record_cannot_write_into_the_card() -> None:
    census = Census()
    kind = "a | b\n# owned <script>x</script> `y` [z](http://x)"
    census.add(check({"id": "a", "kind": kind, "messages": [{"role": "user", "content": "x"}]}, "x"), "train")
    text = card('n"\nlicense: owned', census, {"train": "train.jsonl"})
    assert r"| a \| b \# owned \<script\>x\</script\> \`y\` \[z\](http://x) | 1 |" in text
    assert not re.search(r"^(# owned|license: owned)", text, re.MULTILINE)
