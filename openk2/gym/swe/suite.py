"""Run a repository's tests in a box: how each ended."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openk2.gym.swe import inside
from openk2.sandbox.config import MB, Fittings, Limits
from openk2.sandbox.once import Outcome
from openk2.sandbox.packages import SHOWN_AT
from openk2.sandbox.sandbox import Sandbox

Runner = Literal["unittest", "pytest"]
LIMITS = Limits(cpu_s=60, wall_s=90, memory_bytes=512 * MB, processes=64, disk_bytes=64 * MB, output_bytes=4 * MB)
_INSIDE = Path(inside.__file__).read_text()
_NUM_MUST_FAIL = 3


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run of tests.

    ``endings``: passed, failed or skipped, by test; a test that was not reached is missing. ``why``: what failed ones said. ``bent``: code
    of the repository has changed the test machinery. ``outcome`` is the box's. ``called``: the functions of the tree that were called, by
    file and first line, where that was asked for.
    """

    outcome: Outcome
    endings: Mapping[str, str]
    why: Mapping[str, str]
    bent: bool
    called: frozenset[tuple[str, int]] = frozenset()

    @property
    def passed(self) -> set[str]:
        """The tests that passed."""
        return {name for name, ending in self.endings.items() if ending == "passed"}


async def run_tests(
    tree: Mapping[str, str],
    files: Sequence[str],
    runner: Runner,
    *,
    packages: tuple[str, ...] = (),
    limits: Limits = LIMITS,
    reach: bool = False,
) -> Run:
    """Run the tests of some files of a tree in a fresh box.

    ``packages`` are what it may import beside itself (pytest too). ``reach`` asks which functions are called. Raises SandboxError where no box can be made, ValueError for a
    package that is not installed.
    """
    needed = ("pytest", *packages) if runner == "pytest" else packages
    box = Sandbox(limits, fittings=Fittings(packages=needed))
    for path, text in tree.items():
        box.write(path, text.encode())
    secret = secrets.token_hex(16)
    places = [".", *(["src"] if any(name.startswith("src/") for name in tree) else [])]
    work = {
        "runner": runner,
        "files": list(files),
        "path": places,
        "packages": SHOWN_AT,
        "secret": secret,
        "reach": reach,
    }
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0"}
    result = await box.run(["python3", "-I", "-c", _INSIDE], json.dumps(work).encode(), env=env)
    endings: dict[str, str] = {}
    why: dict[str, str] = {}
    called: set[tuple[str, int]] = set()
    for line in result.stdout.decode(errors="replace").splitlines():
        if line.startswith(secret):
            name, ending, words = json.loads(line.removeprefix(secret))
            if ending == inside.CALLED:
                called.add((name, int(words)))
            elif endings.get(name) != "failed":  # a test may be told of twice: its body, then what comes after
                endings[name], why[name] = ending, words
    must = [endings.pop(name) for name in list(endings) if name.startswith(inside.MUST)]
    bent = "passed" in must or (result.outcome == "ok" and len(must) < _NUM_MUST_FAIL)
    return Run(result.outcome, endings, why, bent, frozenset(called))
