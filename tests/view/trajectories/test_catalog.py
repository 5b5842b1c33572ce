from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openk2.view.trajectories import catalog as module
from openk2.view.trajectories.catalog import Catalog, Filters
from openk2.view.trajectories.sources import open_sources
from tests.view.trajectories.conftest import Made

Record = dict[str, Any]


def num_calls(record: Record) -> int:
    return sum(len(message.get("tool_calls", ())) for message in record["messages"])


def names(record: Record) -> set[str]:
    return {call["function"]["name"] for message in record["messages"] for call in message.get("tool_calls", ())}


def met_fault(record: Record) -> bool:
    return any(called["fault"] for called in record["calls"])


@pytest.mark.parametrize(
    ("filters", "holds"),
    [
        ({}, lambda r: True),
        ({"split": "heldout"}, lambda r: r["split"] == "heldout"),
        ({"kind": "lookup"}, lambda r: r["kind"] == "lookup"),
        ({"tag": "renamed"}, lambda r: "renamed" in r["tags"]),
        ({"outcome": "passed"}, lambda r: r["stage"] is None),
        ({"outcome": "rejected"}, lambda r: r["stage"] is not None),
        ({"stage": "judge", "reason": "missed says"}, lambda r: r["reason"] == "missed says"),
        ({"min_calls": 2, "max_calls": 2}, lambda r: num_calls(r) == 2),
        ({"fault": True}, met_fault),
        ({"fault": False, "split": "train"}, lambda r: not met_fault(r) and r["split"] == "train"),
        ({"text": "TEMPORARY failure"}, lambda r: "temporary failure" in json.dumps(r["messages"])),
        ({"text": '{"ok":true}'}, lambda r: any(m["content"] == '{"ok":true}' for m in r["messages"])),
        ({"kind": "no such kind"}, lambda r: False),
    ],
)
def test_filters_keep_what_they_say(
    catalog: Catalog, made: Made, filters: dict[str, Any], holds: Callable[[Record], bool]
) -> None:
    found = [catalog.ids[number] for number in catalog.matching(Filters(**filters))]
    wanted = [record["id"] for record in made.all if holds(record)]
    assert found == wanted
    if filters.get("kind") != "no such kind":
        assert wanted


def test_a_tool_is_one_that_was_called(catalog: Catalog, made: Made) -> None:
    tool, count = catalog.choices()["tool"][0]
    found = {catalog.ids[number] for number in catalog.matching(Filters(tool=tool))}
    assert found == {record["id"] for record in made.all if tool in names(record)}
    assert len(found) == count


def test_sorting(catalog: Catalog, made: Made) -> None:
    by_id = [catalog.ids[number] for number in catalog.matching(Filters(sort="id"))]
    assert by_id == sorted(record["id"] for record in made.all)
    calls = [catalog.row(int(number))["calls"] for number in catalog.matching(Filters(sort="calls", descending=True))]
    assert calls == sorted(map(num_calls, made.all), reverse=True)
    scores = [catalog.row(int(number))["score"] for number in catalog.matching(Filters(sort="score"))]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1] == 1


def test_the_summary_counts(catalog: Catalog, made: Made) -> None:
    summary = catalog.summary(catalog.matching(Filters()))
    assert summary["count"] == summary["judged"] == len(made.all)
    assert summary["passed"] == len(made.kept)
    assert summary["faults"] == sum(map(met_fault, made.all)) > 0
    assert summary["calls"][1] == sum(num_calls(record) == 1 for record in made.all)
    rejected = catalog.rejected()["judge"]
    assert rejected["rejected"] == len(made.rejected) == sum(rejected["reasons"].values())


def test_text_beyond_ascii_is_found_however_it_is_escaped(tmp_path: Path) -> None:
    said = {"a": "Größe \"drei\"", "b": "GRÖSSE 3", "c": "größe/vier"}  # fmt: skip
    for ascii_only in (True, False):
        path = tmp_path / f"{ascii_only}.jsonl"
        lines = [{"id": id, "messages": [{"role": "user", "content": text}]} for id, text in said.items()]
        path.write_text("".join(json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines))
        catalog = Catalog(open_sources(path))
        for text, found in (("GRÖßE", "ac"), ('größe "D', "a"), ("größe/v", "c"), ("ö", "abc"), ("µ", "")):
            assert "".join(catalog.ids[number] for number in catalog.matching(Filters(text=text))) == found


def test_a_search_ends_in_time(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCH_SECONDS", -1.0)
    with pytest.raises(TimeoutError, match="set another filter first"):
        catalog.matching(Filters(text="anything"))


def test_building_tells_how_far_it_is(made: Made) -> None:
    heard: list[tuple[int, int]] = []
    Catalog(open_sources(made.folder), lambda done, total: heard.append((done, total)))
    assert len(heard) == len(made.all)
    assert heard == sorted(heard)
    assert heard[-1][0] == heard[-1][1]
