"""``openk2 play``: tasks listed, exported, and played through a real terminal's streams."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from openk2.cli import main
from openk2.gym import catalogue
from openk2.gym.math import ArithmeticEnv
from openk2.jobs import jsonl
from openk2.schema import Task

CLI = [sys.executable, "-c", "import sys; from openk2.cli import main; sys.exit(main())", "play"]


def played(typed: str, *flags: str) -> str:
    done = subprocess.run([*CLI, *flags], input=typed, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout


def test_families_and_tasks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in catalogue.NAMES)
    assert main(["play", "logic", "--list", "3", "--split", "train"]) == 0
    assert "3 of 2000 tasks" in capsys.readouterr().out


def test_tasks_are_exported_whole(tmp_path: Path) -> None:
    assert main(["play", "math", "--export", str(tmp_path / "math.jsonl")]) == 0
    tasks = [Task.from_json(row) for row in jsonl.read(tmp_path / "math.jsonl")]
    assert tasks == list(ArithmeticEnv().tasks("heldout"))


def test_a_person_answers_right_then_wrong_and_leaves() -> None:
    task = ArithmeticEnv().tasks("heldout")[0]
    right = played(f"{task.payload['answer']}\n", "math", "--task", task.id)
    assert task.payload["question"] in right
    assert "score 1 (answered 1, correct 1)" in right
    wrong = played("<<\nit is\n31415\n>>\n", "math", "--task", task.id)
    assert "score 0 (answered 1, correct 0)" in wrong
    assert f"The answer is {task.payload['answer']}." in wrong, "what would have been right is told"
    assert "score" not in played("", "math")


def test_a_person_calls_tools() -> None:
    task = catalogue.family("tools").make().tasks("heldout")[0]
    step = task.payload["plan"][0]
    typed = f'/call {step["tool"]} {{"nonsense": 1}}\n/call nothing\nDone.\n'
    told = played(typed, "tools", "--task", task.id)
    assert re.search(rf"tool {step['tool']}\(", told)
    assert '"error"' in told
    assert "no such tool" in told
    assert "score 0" in told


def test_an_agent_by_rule_is_watched() -> None:
    assert "score 1" in played("", "logic", "--agent", "gold", "--seed", "3")
    assert "score 0" in played("", "logic", "--agent", "claims success")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["maths"], "no task family called 'maths'; there are math, logic"),
        (["math", "--agent", "x"], "no agent called 'x'; there are gold, random"),
        (["math", "--task", "x"], "no task 'x' in this split; --list shows them"),
        (["math", "--split", "x"], 'no split "x" in math'),
    ],
)
def test_mistakes_get_one_line(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", *flags]) == 2
    assert told in capsys.readouterr().err
