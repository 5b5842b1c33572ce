from __future__ import annotations

import json
import shutil
from pathlib import Path

from openk2.view.report import write_report
from tests.view.rl.learning import FAMILIES, Maker
from tests.view.test_report import Page


def test_the_report_has_a_part_for_it(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert page.text.count("Reinforcement learning") == 1  # and no panel of the same once more
    for words in (
        "Reward by family",
        "Time line, steps 55 to 60",
        "Critic accuracy",
        "Staleness",
        "Truncated",
        "uniform group",
    ):
        assert words in page.text
    for family in FAMILIES:
        assert f"Reward in {family}" in text
    assert text.count("<polygon") == len(FAMILIES)
    assert page.tags.count("article") == 8
    assert "script" not in page.tags
    assert page.links == []
    assert len(text) < 400_000


def test_a_report_needs_no_more_than_there_is(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "run")
    (tmp_path / "run" / "recipe.toml").write_text('name = "run"\n')
    assert "Reinforcement learning" not in Page(write_report(tmp_path / "run").read_text()).text
    maker.append("timeline", {"step": 1, "spans": [{"worker": 0, "what": "rollout", "start": 0, "end": 3}]})
    assert "Time line, steps 1 to 1" in Page(write_report(tmp_path / "run").read_text()).text


def test_what_a_trace_says_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    maker = Maker(tmp_path / "run")
    (tmp_path / "run" / "recipe.toml").write_text('name = "run"\n')
    maker.append("metrics", {"step": 1, f"reward/{evil}": 0.5, f"broken/{evil}": 2})
    maker.append("timeline", {"step": 1, "spans": [{"worker": 0, "what": evil, "start": 0, "end": 3}]})
    trace = {
        "id": evil, "messages": [{"role": "user", "content": evil}], "stop_reason": evil,
        "score": {"total": 0.5, "parts": {evil: 0.5}}, "info": {"family": evil, "kind": evil, "error": evil},
    }  # fmt: skip
    (tmp_path / "run" / "rl" / "rollouts" / "step-000001.jsonl").write_text(json.dumps(trace) + "\n")
    page = Page(write_report(tmp_path / "run").read_text())
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text.count(evil) >= 6
