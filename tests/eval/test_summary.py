from __future__ import annotations

import json
from pathlib import Path

import pytest

from openk2.eval.config import EvalConfig
from openk2.eval.summary import eval_path, summarize
from openk2.schema import Score, Trace
from openk2.stats import wilson


def write(path: Path, passed: list[bool], *, samples: int = 1, stop_reason: str = "done") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, ok in enumerate(passed):
        for sample in range(samples):
            trace = Trace(f"{i}-{sample}", f"task-{i}", i, "", [], [], [], stop_reason, Score(float(ok)))
            trace.info["eval"] = {"sample": sample, "kind": f"kind-{i % 2}", "app": "bank"}
            lines.append(json.dumps(trace.to_json()))
    path.write_text("\n".join(lines) + "\n")


def test_the_sections_have_the_promised_shape(tmp_path: Path) -> None:
    write(eval_path(tmp_path, "base", "demonstrated"), [False] * 100, stop_reason="env_error")
    write(eval_path(tmp_path, "sft", "demonstrated"), [i < 60 for i in range(100)])
    write(eval_path(tmp_path, "sft_control", "demonstrated"), [i < 62 for i in range(100)])
    write(eval_path(tmp_path, "rl", "demonstrated"), [i < 75 for i in range(100)])
    write(eval_path(tmp_path, "rl", "demonstrated", avg=True), [i < 5 for i in range(10)], samples=4)
    summary = json.loads(json.dumps(summarize(tmp_path)))

    low, high = wilson(60, 100).low, wilson(60, 100).high
    assert summary["tasks"]["demonstrated"]["sft"] == {"pass_at_1": 0.6, "ci95": [low, high], "n": 100}
    assert list(summary["tasks"]["demonstrated"]) == ["base", "sft", "sft_control", "rl"]
    assert list(summary["tasks"]) == ["demonstrated"]
    compared = summary["comparisons"]["demonstrated"]
    assert list(compared) == ["sft_vs_base", "rl_vs_sft", "rl_vs_sft_control"]
    assert compared["rl_vs_sft"]["difference"] == pytest.approx(0.15)
    assert (compared["rl_vs_sft"]["gained"], compared["rl_vs_sft"]["lost"]) == (15, 0)
    assert compared["rl_vs_sft"]["ci95"][0] > 0
    assert summary["avg_at_k"]["demonstrated"]["rl"]["k"] == 4
    assert summary["avg_at_k"]["demonstrated"]["rl"]["avg_at_k"] == 0.5
    assert summary["by_kind"]["demonstrated"]["rl"]["kind-0"]["n"] == 50
    assert summary["by_app"]["demonstrated"]["rl"]["bank"]["pass_at_1"] == 0.75
    assert summary["env_errors"] == {"demonstrated": {"base": 100}}


def test_only_shared_tasks_are_compared(tmp_path: Path) -> None:
    write(eval_path(tmp_path, "base", "unseen_domain"), [False] * 10)
    write(eval_path(tmp_path, "sft", "unseen_domain"), [True] * 6)
    assert summarize(tmp_path)["comparisons"]["unseen_domain"]["sft_vs_base"]["n"] == 6


def test_nothing_evaluated_gives_empty_sections(tmp_path: Path) -> None:
    assert summarize(tmp_path)["tasks"] == {}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = eval_path(tmp_path, "base", "demonstrated")
    path.parent.mkdir()
    path.write_text('{"broken\n')
    with pytest.raises(ValueError, match=r"base-demonstrated\.jsonl:1 is not a JSON trace"):
        summarize(tmp_path)


def test_config_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="avg_tasks_per_set 64 exceeds tasks_per_set 10"):
        EvalConfig(tasks_per_set=10)
    with pytest.raises(ValueError, match="Extra inputs"):
        EvalConfig(num_tasks=3)
    assert EvalConfig(tasks_per_set=10, avg_k=0).avg_k == 0
