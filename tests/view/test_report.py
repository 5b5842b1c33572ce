from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from openk2.view.conversation import MAX_TEXT, clip
from openk2.view.report import duration, percent, points, write_report

VOID = {"meta", "br", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Checks that tags nest, and gathers tags, links and words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(whole_run: Path) -> Page:
    return Page(write_report(whole_run).read_text(encoding="utf-8"))


def test_the_page_holds_every_part(page: Page, whole_run: Path) -> None:
    for part in ("Results", "By kind of task", "Episodes", "Training", "Where the demonstrations come from", "Time"):
        assert part in page.text
    summary = json.loads((whole_run / "summary.json").read_text())
    for stages in summary["tasks"].values():
        for rate in stages.values():
            assert percent(rate["pass_at_1"]) in page.text
    assert "Largest attention logit" in page.text
    assert "γ of the head that QK-Clip scaled most" in page.text
    assert "9 of 24" in page.text  # clipped heads
    assert "51 s of 45 s" in page.text  # a stage over its budget
    assert "24,000" in page.text  # the funnel's end
    assert "Judge: missed told 2,107" in page.text
    assert "Bits per byte, held out, Supervised fine-tuning 1.931" in page.text
    assert page.tags.count("svg") == 7 + 7 + 13
    assert page.tags.count("article") > 12


def test_the_page_stands_alone_and_runs_nothing(page: Page, whole_run: Path) -> None:
    assert page.links == []
    assert "script" not in page.tags
    text = (whole_run / "report.html").read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert len(text) < 400_000
    assert not list(whole_run.glob("*.partial"))


def test_what_a_trajectory_says_is_escaped(new_run: Callable[..., Path], tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", num_tasks=12, stages=("pretrain",))
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    call = {"id": "functions.f:0", "function": {"name": evil, "arguments": f'{{"x": "{evil}"}}'}, "error": "bad_json"}
    trace = {
        "id": "1", "task_id": evil, "seed": 0, "tokenizer_hash": "", "segments": [], "stop_reason": "done",
        "messages": [
            {"role": "system", "content": evil},
            {"role": "user", "content": evil},
            {"role": "assistant", "content": evil, "tool_calls": [call]},
            {"role": "tool", "content": evil},
        ],
        "tools": [{"type": "function", "function": {"name": evil, "description": evil, "parameters": {}}}],
        "score": {"total": 0.5, "parts": {evil: 0.5}}, "versions": {},
        "info": {"eval": {"sample": 0, "kind": evil, "app": evil, "split": "x"}, "error": evil},
    }  # fmt: skip
    (run / "eval").mkdir()
    (run / "eval" / "base-demonstrated.jsonl").write_text(json.dumps(trace) + "\n")
    rate = {"pass_at_1": 0.0, "ci95": [0.0, 0.8], "n": 1}
    summary = {"recipe": evil, "machine": evil, "seconds": {evil: 1.0}}
    summary |= {"tasks": {"demonstrated": {"base": rate}}, "by_kind": {"demonstrated": {"base": {evil: rate}}}}
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "recipe.toml").write_text(f'name = "{evil}"\n')
    (run / "worlds").mkdir()
    funnel = {evil: {"kept": 3, "rejected": 1, "reasons": {evil: 1}}}
    (run / "worlds" / "funnel.json").write_text(json.dumps(funnel))
    page = Page(write_report(run).read_text())
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text.count(evil) >= 12


def test_a_run_with_only_pretraining_has_only_that(new_run: Callable[..., Path], tmp_path: Path) -> None:
    page = Page(write_report(new_run(tmp_path / "young", stages=("pretrain",))).read_text())
    assert "A run through pre-training." in page.text
    assert page.tags.count("svg") == 7
    for part in ("Results", "Episodes", "By kind", "Time", "Fine-tuning"):
        assert part not in page.text


def test_a_run_that_has_just_begun(new_run: Callable[..., Path], tmp_path: Path) -> None:
    page = Page(write_report(new_run(tmp_path / "newborn", stages=())).read_text())
    assert "just begun" in page.text
    assert "Recipe" in page.text


def test_a_run_still_writing_is_read_up_to_its_last_whole_line(new_run: Callable[..., Path], tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", stages=("pretrain",))
    with (run / "pretrain" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 901, "lo')
    Page(write_report(run).read_text())


def test_a_metric_without_finite_values_has_no_chart(new_run: Callable[..., Path], tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", stages=())
    (run / "pretrain").mkdir()
    lines = [json.dumps({"step": i, "loss": 2.0, "max_logit": -float("inf")}) for i in range(3)]
    (run / "pretrain" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    page = Page(write_report(run).read_text())
    assert page.tags.count("svg") == 1


def test_bad_folders_are_named(tmp_path: Path, whole_run: Path) -> None:
    with pytest.raises(ValueError, match="not a run folder"):
        write_report(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(whole_run, copy)
    (copy / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json"):
        write_report(copy)
    (copy / "summary.json").unlink()
    (copy / "rl" / "metrics.jsonl").write_text("nonsense\n")
    with pytest.raises(ValueError, match=r"rl/metrics\.jsonl:1"):
        write_report(copy)


def test_words_for_numbers() -> None:
    assert [duration(s) for s in (8.2, 200, 3900)] == ["8 s", "3 min 20 s", "1 h 05 min"]
    assert [percent(p) for p in (0, 0.0123, 0.9994, 1)] == ["0.0", "1.2", "99.9", "100"]
    assert [points(d) for d in (0.052, -0.1)] == ["+5.2", "−10.0"]
    assert clip("a" * 5000, MAX_TEXT).endswith("1000 more characters")
