"""Tasks from the commits of any git repository: those that changed source and tests, and turned a failing test into a passing one.

Git is asked for objects alone: no checkout, no hook, no filter of the repository runs, and its tests run in boxes only.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from openk2.gym.single_turn import split_of
from openk2.gym.swe.inject import Kept
from openk2.gym.swe.paths import is_source, is_test, judged_tree
from openk2.gym.swe.suite import LIMITS, Run, Runner, run_tests
from openk2.gym.swe.task import Repair, judge
from openk2.sandbox.config import Limits

_GIT_S = 60.0
_MAX_FILES, _MAX_BYTES = 5000, 24 << 20
_REGULAR = (b"100644", b"100755")
_NETWORK = re.compile(
    r"gaierror|Network is unreachable|Address family not supported|Name or service not known|name resolution|URLError"
)
_MISSING = re.compile(r"No module named ['\"](\w+)")
_TRAILER = re.compile(r"^[A-Z][\w-]+: .*$")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit with one parent: what it says and which files it made, changed or removed."""

    name: str
    message: str
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def is_candidate(self) -> bool:
        """Whether it changes source and tests."""
        return any(map(is_source, self.changed)) and any(map(is_test, self.changed))


def commits(repository: Path, limit: int) -> Iterator[Commit]:
    """The newest commits, without merges. Raises ValueError for a folder that holds no repository."""
    log = _git(repository, "log", "--no-merges", f"--max-count={limit}", "--format=%H %P").decode().splitlines()
    for line in log:
        name, *parents = line.split()
        if len(parents) != 1:
            continue
        message = _git(repository, "log", "-1", "--format=%B", name).decode(errors="replace").strip()
        told = _git(repository, "diff-tree", "-r", "-z", "--no-renames", "--name-status", "--no-commit-id", name)
        words = told.decode(errors="replace").split("\0")[:-1]
        pairs = list(zip(words[::2], words[1::2], strict=True))
        yield Commit(
            name,
            message,
            tuple(path for kind, path in pairs if kind != "D"),
            tuple(path for kind, path in pairs if kind == "D"),
        )


def tree_of(repository: Path, name: str) -> dict[str, str]:
    """The text files of a commit; links, submodules and other files are left out. Raises ValueError where there are too many."""
    found: dict[str, str] = {}
    rows = [row for row in _git(repository, "ls-tree", "-r", "-z", name).split(b"\0") if row]
    if len(rows) > _MAX_FILES:
        raise ValueError(f"too large: {len(rows)} files")
    entries = []
    for row in rows:
        about, _, path = row.partition(b"\t")
        mode, _, blob = about.split()
        if mode in _REGULAR:
            entries.append((path.decode(errors="replace"), blob))
    data = _git(repository, "cat-file", "--batch", given=b"\n".join(blob for _, blob in entries))
    if len(data) > _MAX_BYTES:
        raise ValueError(f"too large: {len(data) >> 20} MB")
    at = 0
    for place, _ in entries:
        end = data.index(b"\n", at)
        size = int(data[at:end].split()[2])
        content, at = data[end + 1 : end + 1 + size], end + size + 2
        try:
            found[place] = content.decode()
        except UnicodeDecodeError:
            continue
    return found


async def mine(
    repository: Path,
    runner: Runner,
    *,
    limit: int = 200,
    most: int = 20,
    packages: tuple[str, ...] = (),
    limits: Limits = LIMITS,
) -> dict[str, Kept]:
    """What came of the commits among the newest ``limit`` that change source and tests, by commit, ``most`` of them at most.

    A task is kept when a test that failed before passes after, the same when run again, and the true solution earns 1 in the judge. Raises
    ValueError for a folder that holds no repository, or a package that is not installed.
    """
    found: dict[str, Kept] = {}
    for commit in commits(repository, limit):
        if len(found) >= most:
            break
        if commit.is_candidate:
            found[commit.name] = await _try(repository, commit, runner, packages, limits)
    return found


async def _try(repository: Path, commit: Commit, runner: Runner, packages: tuple[str, ...], limits: Limits) -> Kept:
    try:
        old, new = tree_of(repository, f"{commit.name}^"), tree_of(repository, commit.name)
    except ValueError as error:
        return Kept(str(error).partition(":")[0])
    tests = {path: new[path] for path in commit.changed if is_test(path) and path in new}
    # Files beside the tests, such as data and helpers, decide with them.
    support = {path: new[path] for path in commit.changed if not is_source(path) and path in new}
    gold = {path: new[path] for path in commit.changed if is_source(path) and path in new}
    if any(map(is_source, commit.removed)):
        return Kept("the solution removes files")
    after = await run_tests(
        judged_tree(old, support, {**old, **gold}), sorted(tests), runner, packages=packages, limits=limits
    )
    if reason := _broken(after):
        return Kept(reason)
    before = await run_tests({**old, **support}, sorted(tests), runner, packages=packages, limits=limits)
    if before.outcome not in ("ok", "failed"):
        return Kept(f"before it, the run reached a limit: {before.outcome}")
    again = await run_tests(
        judged_tree(old, support, {**old, **gold}), sorted(tests), runner, packages=packages, limits=limits
    )
    steady = after.passed & again.passed  # a test that ends otherwise the second time says nothing
    if not steady - before.passed:
        return Kept("no test fails before it and passes after")
    repair = Repair(
        request=_issue(commit.message),
        files=old,
        tests=support,
        runner=runner,
        fail_to_pass=sorted(steady - before.passed),
        pass_to_pass=sorted(steady & before.passed),
        gold=gold,
        packages=packages,
    )
    verdict = await judge(repair, {**old, **gold}, limits)
    if not verdict.passed:
        return Kept(
            f"the true solution is judged so: {', '.join(part for part in verdict.parts if part != 'pass_rate')}"
        )
    return Kept("kept", repair.to_task(split_of(f"{repository.name} {commit.name}"), "mined", (repository.name,)))


def _broken(after: Run) -> str:
    """Why a run of the true solution is of no use, or nothing."""
    if after.outcome not in ("ok", "failed"):
        return f"the run reached a limit: {after.outcome}"
    if after.bent:
        return "its own code changes the test machinery"
    if after.passed:
        return ""
    if any(map(_NETWORK.search, after.why.values())):
        return "its tests need the network"
    missing = sorted({name for why in after.why.values() for name in _MISSING.findall(why)})
    if missing:
        return f"its tests need packages that are not there: {', '.join(missing)}"
    last = next((why.strip().splitlines()[-1] for why in after.why.values() if why.strip()), "none is found")
    return f"no test passes after it ({last[:100]})"


def _issue(message: str) -> str:
    """What a commit message says, without the lines that are for git."""
    return "\n".join(line for line in message.splitlines() if not _TRAILER.match(line)).strip()


def _git(repository: Path, *words: str, given: bytes = b"") -> bytes:
    command = ["git", "--no-pager", "--no-replace-objects", "-C", str(repository), "-c", "core.fsmonitor=false", *words]
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        timeout=_GIT_S,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "GIT_CONFIG_NOSYSTEM": "1"},
    )
    if done.returncode:
        raise ValueError(
            f"git {words[0]} in {repository}: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}"
        )
    return done.stdout


def source_tree(folder: Path) -> Mapping[str, str]:
    """The text files of a folder, such as an unpacked source distribution."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and ".git" not in path.parts:
            try:
                found[str(path.relative_to(folder))] = path.read_text()
            except UnicodeDecodeError:
                continue
    return found
