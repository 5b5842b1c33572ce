"""Run what the documents show: every fenced ``bash`` and ``python`` block of README.md and docs/*.md.

A page's blocks run in order in one scratch copy of the checkout, so that a block can use what an earlier one made.
An HTML comment in the line above a block says otherwise:

    <!-- slow -->           runs with --all only
    <!-- norun: reason -->  never runs, and is listed with its reason
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 120
SLOW_LIMIT_SECONDS = 1800
BLOCK = re.compile(
    r"(?:^<!--[ ]*(?P<mark>slow|norun)(?::[ ]*(?P<reason>.*?))?[ ]*-->\n\n?)?"
    r"^```(?P<language>bash|python)[ ]*\n(?P<code>.*?)^```[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands and how it is meant to run."""

    page: Path
    line: int
    language: str
    code: str
    slow: bool
    norun: str | None


def blocks_of(page: Path) -> list[Block]:
    """All runnable blocks of a page, in order. Raises ValueError for a norun mark without a reason."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        mark, reason = match["mark"], match["reason"]
        line = text.count("\n", 0, match.start("code"))
        if mark == "norun" and not reason:
            raise ValueError(f"{page}:{line}: norun needs a reason: <!-- norun: reason -->")
        norun = reason if mark == "norun" else None
        found.append(Block(page, line, match["language"], match["code"], mark == "slow", norun))
    return found


def run(block: Block, scratch: Path, limit: float) -> str | None:
    """Run a block in ``scratch``. Returns what went wrong, or None."""
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*program, block.code],
            cwd=scratch,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"did not end within {limit:.0f} s"
        if code == 0:
            return None
        said.seek(0)
        tail = said.read().decode(errors="replace").rstrip().splitlines()[-20:]
        return "\n".join([f"exit code {code}", *(f"    {line}" for line in tail)])


def copy_checkout(root: Path, scratch: Path) -> None:
    """The files git would commit, and the environment by link."""
    listed = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, scratch / name)
    if (root / ".venv").is_dir():
        (scratch / ".venv").symlink_to(root / ".venv")


def check(root: Path, *, everything: bool) -> int:
    """Run all pages; print a line for each block. Returns the number of blocks that failed."""
    num_failed = 0
    for page in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        blocks = blocks_of(page)
        if not blocks:
            continue
        with tempfile.TemporaryDirectory() as folder:
            copy_checkout(root, Path(folder))
            for block in blocks:
                where = f"{page.relative_to(root)}:{block.line}"
                if block.norun:
                    print(f"skipped  {where}  {block.norun}")
                elif block.slow and not everything:
                    print(f"slow     {where}  runs with --all")
                else:
                    started = time.monotonic()
                    wrong = run(block, Path(folder), SLOW_LIMIT_SECONDS if block.slow else LIMIT_SECONDS)
                    num_failed += wrong is not None
                    print(
                        f"{'failed' if wrong else 'passed'}   {where}  {time.monotonic() - started:.1f} s", flush=True
                    )
                    if wrong:
                        print(f"  {wrong}")
    return num_failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the commands and snippets the documents show.")
    parser.add_argument("--all", action="store_true", help="the slow ones too")
    sys.exit(1 if check(ROOT, everything=parser.parse_args().all) else 0)
