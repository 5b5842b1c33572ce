"""A task of mending a repository, and the judge of what an agent has made of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openk2.gym.swe.paths import is_test, judged_tree
from openk2.gym.swe.suite import LIMITS, Runner, run_tests
from openk2.gym.swe.tampering import newly_suspect
from openk2.sandbox.config import Limits
from openk2.schema import JSON, Score, Task

FAMILY = "swe"


@dataclass(frozen=True, slots=True)
class Repair:
    """What is in a task's payload.

    ``files`` is the tree the agent gets, without history; ``tests`` the files that decide, tests and what lies beside them, put over whatever it leaves. ``fail_to_pass`` and
    ``pass_to_pass`` name the tests that must pass. ``gold``: the files of a true solution. ``packages``: what the tests import beside it.
    """

    request: str
    files: Mapping[str, str]
    tests: Mapping[str, str]
    runner: Runner
    fail_to_pass: Sequence[str]
    pass_to_pass: Sequence[str]
    gold: Mapping[str, str]
    packages: Sequence[str] = ()

    def to_task(self, split: str, kind: str, tags: tuple[str, ...]) -> Task:
        """The task, whole, as plain data."""
        payload: JSON = dataclasses.asdict(self) | {"packages": list(self.packages)}
        name = hashlib.blake2b(f"{self.request}{sorted(self.files.items())}".encode(), digest_size=8).hexdigest()
        size = min(len(self.files) / 100, 1.0)
        return Task(f"{FAMILY}-{kind}-{name}", FAMILY, kind, split, payload, tags=(kind, *tags), difficulty=size)


async def judge(repair: Repair, left: Mapping[str, str], limits: Limits = LIMITS) -> Score:
    """Score the tree an agent has left by running the tests that decide over its source files, in a fresh box.

    1 when all that must pass pass. Parts: ``pass_rate`` over them, and 1 under ``passed``, ``failed``, ``unchanged``,
    ``tampered`` (it reaches for the test machinery, or has bent it), or under the limit that the run reached.
    """
    tree = judged_tree(repair.files, repair.tests, left)
    if all(tree.get(path) == text for path, text in (dict(repair.files) | dict(repair.tests)).items()) and len(
        tree
    ) == len(repair.files.keys() | repair.tests.keys()):
        return _score("unchanged", 0.0)
    if newly_suspect(repair.files, tree_without(tree, repair.tests)) - newly_suspect(repair.files, repair.gold):
        return _score("tampered", 0.0)
    # What decides may be more than tests, such as their data; a runner that is given such a file runs nothing.
    files = sorted(filter(is_test, repair.tests))
    run = await run_tests(tree, files, repair.runner, packages=tuple(repair.packages), limits=limits)
    must = [*repair.fail_to_pass, *repair.pass_to_pass]
    rate = sum(name in run.passed for name in must) / len(must)
    if run.bent:
        return _score("tampered", 0.0)
    if run.outcome != "ok":
        return _score("failed" if run.outcome == "failed" else run.outcome, min(rate, 0.99))
    return _score("passed" if rate == 1 else "failed", rate)


def tree_without(tree: Mapping[str, str], tests: Mapping[str, str]) -> dict[str, str]:
    """The files of a tree that are not among the tests that decide."""
    return {path: text for path, text in tree.items() if path not in tests}


def _score(outcome: str, rate: float) -> Score:
    return Score(float(outcome == "passed"), {"pass_rate": rate, outcome: 1.0})
