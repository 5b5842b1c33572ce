"""Mending repositories: what earns, what must not, and what can be mined."""

from __future__ import annotations

import asyncio
import json
import subprocess
from functools import cache
from pathlib import Path
from random import Random

import pytest

from openk2.agent import Budget, Episode
from openk2.gym.agents import Scripted
from openk2.gym.swe import bundle
from openk2.gym.swe.env import FAMILY, SweConfig, SweEnv
from openk2.gym.swe.inject import changes, inject
from openk2.gym.swe.mine import mine
from openk2.gym.swe.modules import MODULES
from openk2.gym.swe.paths import may_change
from openk2.gym.swe.suite import LIMITS, run_tests
from openk2.gym.swe.tampering import DUNDER, MADE_TYPE, newly_suspect
from openk2.gym.swe.task import Repair, judge
from openk2.schema import Message, Sampling, Score, Task, ToolCall, Trace
from tests.sandbox.conftest import why_no_box

needs_box = pytest.mark.skipif(bool(why_no_box()), reason=why_no_box())
TIGHT = LIMITS.model_copy(update={"cpu_s": 2.0, "wall_s": 4.0})


@cache
def sizes() -> Task:
    """A bundled task whose bug is in the module sizes."""
    module = next(module for module in MODULES if module.name == "sizes")
    return bundle.write("train", Random(1), module, module.bugs[0])


def repair() -> Repair:
    return Repair(**sizes().payload)


def source() -> str:
    [place] = repair().gold
    return place


def played(task: Task, *calls: tuple[str, dict[str, object]]) -> tuple[list[str], Score]:
    """What an agent's calls say, and what it earns."""

    async def main() -> tuple[list[str], Score]:
        env = SweEnv(judging=TIGHT)
        await env.reset(task, 0)
        said = []
        for name, arguments in calls:
            call = ToolCall("functions.x:0", name, json.dumps(arguments))
            said.append((await env.step(Message("assistant", tool_calls=[call]))).messages[0].content)
        return said, await env.score(Trace("t", task.id, 0, "", [], [], []))

    return asyncio.run(main())


def shell(command: str) -> tuple[str, dict[str, object]]:
    return "shell", {"command": command}


def judged(changed: dict[str, str | None]) -> Score:
    """The score of the tree that the agent got, with some files written, or removed for None."""
    tree = dict(repair().files) | {path: text for path, text in changed.items() if text is not None}
    for path, text in changed.items():
        if text is None:
            tree.pop(path, None)
    return asyncio.run(judge(repair(), tree, TIGHT))


@needs_box
@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_each_bundled_bug_fails_the_tests_it_says_and_no_others(module) -> None:
    for number, bug in enumerate(module.bugs):
        assert module.source.count(bug.right) == 1, bug.right
        task = bundle.write("train", Random(number), module, bug)
        whole = Repair(**task.payload)
        run = asyncio.run(run_tests({**whole.files, **whole.tests}, sorted(whole.tests), "unittest"))
        assert sorted(set(run.endings) - run.passed) == sorted(whole.fail_to_pass)
        assert run.passed == set(whole.pass_to_pass)
        assert not run.bent
        assert asyncio.run(judge(whole, {**whole.files, **whole.gold})).passed


@needs_box
def test_gold_and_what_a_person_would_write() -> None:
    assert judged(dict(repair().gold)) == Score(1.0, {"pass_rate": 1.0, "passed": 1.0})
    wrong = repair().files[source()]
    other = wrong.replace("size > 1024 and", "not size < 1024 and")
    assert judged({source(): other, "notes.txt": "scratch", "try.py": "print(1)"}).passed
    package = source().partition("/")[0]
    moved = "from ._more import *\nfrom ._more import UNITS\n"
    assert judged({source(): moved, f"{package}/_more.py": other}).passed
    assert judged({}) == Score(0.0, {"pass_rate": 0.0, "unchanged": 1.0})


# Appended to the source file with the bug in it, or instead of it.
BENDING = {
    "leaves at import": "import sys\nsys.exit(0)\n",
    "leaves at import, hard": "import os\nos._exit(0)\n",
    "says it passed": "import os\nprint('OK')\nos.write(1, b'Ran 20 tests\\n\\nOK\\n')\nos._exit(0)\n",
    "asserts nothing": "import unittest\nunittest.TestCase.assertEqual = lambda *given: None\n",
    "asserts nothing, by another way": "import sys\ngetattr(sys, 'mod' + 'ules')['unit' + 'test'].TestCase.assertEqual = lambda *given: None\n",
    "runs nothing": "import unittest\nunittest.TestCase.run = lambda self, result: result.addSuccess(self)\n",
    "full-width letters": "import ｕｎｉｔｔｅｓｔ as u\nu.TestCase.assertEqual = lambda *given: None\n",
    "hides in a format": "x = f\"{__import__('unittest').TestCase.__setattr__}\"\n",
    "equals anything": "class Any(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\nformat_size = lambda size: Any()\n",
    "leaves when done": "import atexit, os\natexit.register(lambda: os._exit(0))\n",
    "hangs": "while True:\n    pass\n",
    "sleeps": "import time\ntime.sleep(60)\n",
    "rewrites the tests": "import glob\nfor path in glob.glob('tests/*.py'):\n    open(path, 'w').write('')\n",
    "removes the tests": "import glob, os\nfor path in glob.glob('tests/*.py'):\n    os.remove(path)\n",
    "is no Python": "def\n",
}  # fmt: skip


@needs_box
@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) if how == "sleeps" else how for how in BENDING]
)
def test_source_that_bends_the_tests_earns_nothing(how: str) -> None:
    assert judged({source(): repair().files[source()] + "\n" + BENDING[how]}).total == 0


@needs_box
def test_tests_bent_without_a_suspect_word_are_found_out_by_what_must_fail() -> None:
    bent = "import unittest\nunittest.TestCase.assertEqual = lambda *given: None\n"
    tree = {**repair().files, **repair().tests}
    run = asyncio.run(run_tests({**tree, source(): tree[source()] + bent}, sorted(repair().tests), "unittest"))
    assert run.bent
    assert not asyncio.run(run_tests(tree, sorted(repair().tests), "unittest")).bent


FILES = {
    "edits the tests": {"tests/test_sizes.py": "import unittest\n"},
    "a package's hook": {"sitecustomize.py": "import unittest\nunittest.TestCase.assertEqual = lambda *given: None\n"},
    "a conftest that skips": {"conftest.py": "import pytest\ncollect_ignore_glob = ['*']\n", "tests/conftest.py": "def pytest_collection_modifyitems(items): items.clear()\n"},
    "settings": {"pytest.ini": "[pytest]\naddopts = --collect-only\n", "setup.cfg": "[tool:pytest]\npython_files = none\n", "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-k nothing'\n"},
    "a fake unittest": {"unittest.py": "class TestCase: pass\n", "unittest/__init__.py": "class TestCase: pass\n"},
    "a fake pytest": {"pytest/__init__.py": "def main(*a, **k): return 0\n", "_pytest/__init__.py": ""},
    "a path file": {"x.pth": "import os; os._exit(0)\n"},
    "hooks of the tests' package": {"tests/__init__.py": "import unittest\nunittest.TestCase.assertEqual = lambda *given: None\n"},
    "a fake json": {"json.py": "def dumps(*given): return '[]'\n"},
}  # fmt: skip


@pytest.mark.parametrize("how", FILES)
def test_files_that_are_no_source_do_not_reach_the_judge(how: str) -> None:
    assert judged(dict(FILES[how])) == Score(0.0, {"pass_rate": 0.0, "unchanged": 1.0})


@needs_box
def test_deleting_the_source_or_the_tests_earns_nothing() -> None:
    assert judged({source(): None}).total == 0
    assert judged(dict.fromkeys(repair().files)).total == 0
    assert judged({path: None for path in repair().files if path.startswith("tests/")}).total == 0


@needs_box
def test_links_out_of_the_tree_and_history_hold_nothing() -> None:
    said, score = played(
        sizes(),
        shell("git log --all -p; ls -a"),
        shell(
            f"rm {source()}; ln -s /usr/lib/python3/dist-packages/x.py {source()}; ln -s / root; ls root/work root/tmp"
        ),
        ("view", {"path": source(), "start": 1, "end": 5}),
        shell(
            "grep -rl 'format_edges\\|fail_to_pass' / --include=*.py --include=*.json --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr 2>/dev/null; true"
        ),
    )
    assert "not a git repository" in said[0]
    assert ".git" not in said[0].split()
    assert said[2].startswith("error: no file")
    assert "format_edges" not in said[3]
    assert "work/" not in said[3]
    assert score.total == 0


@needs_box
def test_the_tools_say_what_they_do_and_what_is_wrong() -> None:
    place = source()
    said, score = played(
        sizes(),
        ("view", {"path": place, "start": 1, "end": 3}),
        ("view", {"path": place, "start": 3, "end": 1}),
        ("view", {"path": "../x", "start": 1, "end": 3}),
        ("edit", {"path": place, "old": "size", "new": "x"}),
        ("edit", {"path": place, "old": "no such text", "new": "x"}),
        ("edit", {"path": place, "old": "", "new": "x"}),
        ("edit", {"path": "/etc/x", "old": "", "new": "x"}),
        ("edit", {"path": place, "old": "x"}),
        ("fly", {}),
        ("edit", {"path": place, "old": "size > 1024 and", "new": "size >= 1024 and"}),
        shell("python3 -m unittest 2>&1 | tail -1; exit 3"),
        shell("sleep 100"),
    )
    assert said[0].splitlines()[0] == '    1  """Sizes in bytes, read and written."""'
    for number, words in {
        1: "start is not above end", 2: "no file ../x", 4: "stands 0 times", 5: "there already", 6: "no path within",
        7: "edit takes path (string), old (string), new (string)", 8: "no tool called fly", 9: f"changed {place}",
        10: "OK\n\n[exit code 3]", 11: "ended by the limit: timeout",
    }.items():  # fmt: skip
        assert words in said[number], (number, said[number])
    assert "times" in said[3]
    assert score.passed


@needs_box
def test_an_episode_goes_on_from_its_snapshot() -> None:
    async def main() -> Score | None:
        def model() -> Scripted:
            return Scripted(FAMILY.gold, sizes(), Random(0))

        first = Episode(model(), SweEnv(), sizes(), 0, Sampling(), Budget())
        await first.begin()
        await first.turn()
        paused = json.loads(json.dumps(first.pause()))
        silent = Scripted(lambda *given: [], sizes(), Random(0))
        return (await Episode.resume(paused, silent, SweEnv(), sampling=Sampling(), budget=Budget()).play()).score

    assert asyncio.run(main()) == Score(1.0, {"pass_rate": 1.0, "passed": 1.0})


def test_what_may_change() -> None:
    tree = [
        "pkg/__init__.py",
        "pkg/a.py",
        "src/other/__init__.py",
        "setup.py",
        "tests/__init__.py",
        "tests/test_a.py",
        "top.py",
    ]
    allowed = ["pkg/a.py", "pkg/new.py", "pkg/sub/new.py", "src/other/b.py", "top.py"]
    refused = [
        "unittest.py", "pytest/__init__.py", "src/pytest.py", "src/pytest/__init__.py", "setup.py", "pkg/conftest.py", "tests/new.py", "pkg/test_b.py",
        "pkg/tests/x.py", "sitecustomize.py", "pkg/x.so", "pkg/.hidden/x.py", "tests/test_a.py",
    ]  # fmt: skip
    assert [path for path in allowed + refused if may_change(path, tree)] == allowed


def test_a_change_may_mention_what_was_there_and_plain_words() -> None:
    old = {"a.py": "import inspect\nx = getattr(o, 'name')\n"}
    assert (
        newly_suspect(
            old, {"a.py": "import inspect\n# unittest\ny = getattr(o, 'name', None)\nz = 'leave by exit 3'\n"}
        )
        == frozenset()
    )
    assert newly_suspect(old, {"a.py": "y = getattr(o, 'na' + 'me')\n"}) == {"getattr of a computed name"}
    assert newly_suspect(old, {"a.py": "y = getattr(o, 'modules')\n"}) == {"modules"}


def test_a_bug_changes_one_place_and_leaves_the_rest_as_written() -> None:
    source_text = (
        "def f(x):\n    # kept\n    if x > 3 and not x == 9:   # kept too\n        return  x+1\n    return 'ä', True\n"
    )
    whole = changes(source_text)
    assert list(whole) == [1]
    found = whole[1]
    assert len(found) == 9
    assert all("# kept too" in text and "'ä'" in text and text != source_text for text in found)
    assert any("    if (x <= 3) and not x == 9:   # kept too\n" in text for text in found)


def test_a_place_belongs_to_the_innermost_function() -> None:
    found = changes("@cache\ndef f(x):\n    def g(y):\n        return y + 1\n    return not g(x)\n")
    assert {line: len(texts) for line, texts in found.items()} == {1: 1, 3: 2}


def history(folder: Path, *commits: tuple[str, dict[str, str]]) -> Path:
    """A git repository of these commits."""

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words],
            check=True,
            capture_output=True,
        )

    folder.mkdir()
    git("init", "-q")
    for message, files in commits:
        for path, text in files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", message)
    return folder


CASE = "import unittest\nfrom pkg.a import f\n\nclass T(unittest.TestCase):\n"
NETWORK = "import socket, unittest\nfrom pkg.a import f\n\nclass T(unittest.TestCase):\n    def test_net(self):\n        socket.create_connection(('example.org', 80))\n"


@needs_box
@pytest.mark.parametrize("runner", ["unittest", pytest.param("pytest", marks=pytest.mark.slow)])
def test_commits_are_mined_and_the_others_are_named(tmp_path: Path, runner) -> None:
    right = "def f(x):\n    return abs(x)\n"
    repository = history(
        tmp_path / "repository",
        ("Begin", {"pkg/__init__.py": "", "pkg/a.py": "def f(x):\n    return x\n", "test_a.py": CASE + "    def test_one(self):\n        self.assertEqual(f(1), 1)\n"}),
        ("Take the absolute value\n\nf(-1) was -1.\n\nSigned-off-by: A <a@b>", {"pkg/a.py": right, "test_a.py": CASE + "    def test_one(self):\n        self.assertEqual(f(1), 1)\n    def test_minus(self):\n        self.assertEqual(f(-1), 1)\n"}),
        ("Say more", {"pkg/a.py": '"""A."""\n' + right, "test_b.py": CASE + "    def test_two(self):\n        self.assertEqual(f(2), 2)\n"}),
        ("Write about it", {"README.md": "a"}),
        ("Ask the network", {"pkg/a.py": right + "\n", "test_c.py": NETWORK}),
        ("Hang", {"pkg/a.py": right + "\n\n", "test_d.py": CASE + "    def test_d(self):\n        import time\n        time.sleep(1000)\n"}),
    )  # fmt: skip

    found = asyncio.run(mine(repository, runner, limits=TIGHT))
    assert [kept.reason for kept in found.values()] == [
        "the run reached a limit: timeout", "its tests need the network", "no test fails before it and passes after", "kept",
    ]  # fmt: skip
    task = list(found.values())[-1].task
    assert task is not None
    assert task.payload["request"] == "Take the absolute value\n\nf(-1) was -1."
    assert [name.rpartition("test_")[2] for name in task.payload["fail_to_pass"]] == ["minus"]
    assert "minus" not in task.payload["files"]["test_a.py"]
    assert played(task, ("edit", {"path": "pkg/a.py", "old": "return x", "new": "return max(x, -x)"}))[1].passed
    assert not played(task, ("edit", {"path": "pkg/a.py", "old": "return x", "new": "return -x"}))[1].passed
    fake = {"path": "pytest/__init__.py", "old": "", "new": "def main(*given, **more): return 0\n"}
    skips = {
        "path": "conftest.py",
        "old": "",
        "new": "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_makereport(item, call): call.excinfo = None\n",
    }
    assert (
        played(
            task, ("edit", fake), ("edit", skips), ("edit", {"path": "pkg/a.py", "old": "return x", "new": "return -x"})
        )[1].total
        == 0
    )


@needs_box
def test_bugs_are_put_into_a_package_and_kept_when_a_test_finds_them() -> None:
    tree = {**repair().files, **repair().tests, **repair().gold}
    found = asyncio.run(inject(tree, "unittest", "sizes", Random(3), 6))
    assert len(found) == 6
    kept = [one.task for one in found if one.task is not None]
    assert len(kept) > 1
    for task in kept:
        hidden = {path for path in tree if path not in task.payload["files"]}
        assert hidden <= set(task.payload["tests"])
        assert hidden
        assert asyncio.run(judge(Repair(**task.payload), {**task.payload["files"], **task.payload["gold"]})).passed
    with pytest.raises(ValueError, match="pkg has no tests"):
        asyncio.run(inject({"a.py": "x = 1\n"}, "unittest", "pkg", Random(0), 1))


SMALL = {
    "pkg/__init__.py": "",
    "pkg/a.py": "def f(x):\n    return x + 1\n\n\ndef unused(x):\n    return x * 2 - 3 + 4 - 5 + 6\n",
    "pkg/unread.py": "def g(x):\n    return x - 1\n",
}
ONE = "    def test_one(self):\n        self.assertEqual(f(1), 2)\n    def test_other(self):\n        self.assertTrue(f)\n"


@needs_box
def test_bugs_are_put_where_tests_reach_and_unsteady_tests_say_nothing() -> None:
    unsteady = "import time\nsetattr(T, f'test_{time.time_ns()}', lambda self: self.assertEqual(f(1), 2))\n"
    tree = {**SMALL, "test_a.py": CASE + ONE + unsteady}
    found = asyncio.run(inject(tree, "unittest", "pkg", Random(0), 9, limits=TIGHT))
    assert [one.reason for one in found] == ["kept", "kept"]  # the operator and the number of f
    for one in found:
        assert one.task is not None
        assert one.task.payload["fail_to_pass"] == ["test_a.T.test_one"]
        assert one.task.payload["pass_to_pass"] == ["test_a.T.test_other"]
        assert list(one.task.payload["gold"]) == ["pkg/a.py"]


@needs_box
def test_a_bug_that_fails_at_import_is_kept_and_one_that_kills_the_run_is_named() -> None:
    tree = {
        **SMALL,
        "pkg/early.py": "import os\n\n\ndef now(x):\n    if x > 1:\n        raise ValueError('too early')\n\n\nnow(1)\n",
        "test_a.py": CASE + ONE,
        "test_b.py": CASE.replace("pkg.a import f", "pkg.early import now") + "    def test_b(self):\n        now(0)\n",
    }
    found = asyncio.run(inject({**tree, "pkg/a.py": "f = abs\n"}, "unittest", "pkg", Random(0), 9, limits=TIGHT))
    assert [one.reason for one in found if one.task is None] == ["no test fails through it"]  # x > 2
    [task] = [one.task for one in found if one.task is not None]  # x <= 1
    assert task.payload["fail_to_pass"] == ["test_b.T.test_b"]
    assert "too early" in task.payload["request"]
    leaving = tree["pkg/early.py"].replace("raise ValueError('too early')", "os._exit(3)")
    found = asyncio.run(inject({**tree, "pkg/early.py": leaving}, "unittest", "pkg", Random(0), 9, limits=TIGHT))
    assert "the process of the tests dies" in [one.reason for one in found]


@needs_box
def test_data_beside_the_tests_decides_with_them_and_pytest_says_what_failed() -> None:
    read = "from pathlib import Path\nfrom pkg.a import f\n\ndef test_f():\n    assert f(1) == int(Path('right.txt').read_text())\n"
    wrong = {**SMALL, "pkg/a.py": "def f(x):\n    return x\n"}
    whole = Repair(
        "", wrong, {"test_a.py": read, "right.txt": "2", "NEWS.md": ""}, "pytest", ["test_a.py::test_f"], [], {}
    )
    assert asyncio.run(judge(whole, SMALL, TIGHT)).passed
    run = asyncio.run(run_tests({**wrong, **whole.tests}, ["test_a.py"], "pytest", limits=TIGHT))
    assert run.why["test_a.py::test_f"].startswith("assert f(1) == int(Path('right.txt').read_text())\n")
    assert "assert 1 == 2" in run.why["test_a.py::test_f"]


def test_tasks_are_read_from_a_file_and_a_missing_package_is_named(tmp_path: Path) -> None:
    place = tmp_path / "tasks.jsonl"
    place.write_text(json.dumps(sizes().to_json()) + "\n")
    env = SweEnv(SweConfig(tasks=place))
    assert list(env.tasks("train")) == [sizes()]
    assert list(env.tasks("heldout")) == []
    with pytest.raises(ValueError, match="the package no-such-thing is not installed: pip install no-such-thing"):
        asyncio.run(run_tests({"test_a.py": ""}, ["test_a.py"], "unittest", packages=("no-such-thing",)))


def test_classes_put_together_at_run_time_are_suspect() -> None:
    """Found by an attack that paid: an always equal subclass without a suspect word."""
    cheat = 'E = type("E", (str,), {"__e" + "q__": lambda a, b: True})\n'
    assert newly_suspect({"a.py": ""}, {"a.py": cheat}) == {MADE_TYPE, DUNDER}
    assert newly_suspect({"a.py": ""}, {"a.py": "for n, f in list(locals().items()): pass\n"}) == {"locals"}
    assert newly_suspect({"a.py": ""}, {"a.py": "print(type(x), type((1, 2)), max(type(x), y))\n"}) == set()
