"""The page that says how to write an environment, as it is written."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def block() -> str:
    spec = importlib.util.spec_from_file_location("docs_check", ROOT / "tests/docs_check.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["docs_check"] = docs_check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docs_check)
    (found,) = docs_check.blocks_of(ROOT / "docs/gym-own.md")
    return str(found.code)


def test_the_environment_has_at_most_30_lines_and_plays() -> None:
    code = block()
    environment, played, _ = code.partition("# A model by rule")
    assert played
    assert len(environment.strip().splitlines()) <= 30
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[1:] == ["71", "done", "1.0"]
