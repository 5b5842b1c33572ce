"""What runs a repository's tests inside a box. Its text is given to the box's interpreter: the standard library alone, and pytest where asked.

It reads what to do from stdin and writes a line of JSON for each test to the true stdout, each opening with a secret word, so that what
the repository's own code prints is not taken for a result. Among the tests stand some that must fail; code that bends
the test machinery makes them pass.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import unittest
from collections.abc import Callable
from typing import Any

Say = Callable[[str, str, str], None]
MUST = "must-fail"
CALLED = "called"


def main() -> None:
    """Run the tests of some files and say how each ended."""
    work = json.load(sys.stdin)
    os.remove("/box/stdin")  # it holds the secret word
    out = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    write, secret, dumps = os.write, work["secret"], json.dumps

    def say(name: str, ending: str, why: str) -> None:
        write(out, (secret + dumps([name, ending, why[-400:]]) + "\n").encode())

    sys.path[:0] = [os.path.normpath(os.path.join(os.getcwd(), place)) for place in work["path"]]
    sys.path.append(work["packages"])
    run = by_pytest if work["runner"] == "pytest" else by_unittest
    called: set[Any] = set()
    if work["reach"]:
        sys.setprofile(lambda frame, event, arg: called.add(frame.f_code))
    run(work["files"], say)
    sys.setprofile(None)
    here = os.path.join(os.getcwd(), "")
    for code in called:
        if code.co_filename.startswith(here):
            say(code.co_filename.removeprefix(here), CALLED, str(code.co_firstlineno))
    os._exit(0)  # whatever the repository left to be done at the end is not


def words_of(error: BaseException, file: str) -> str:
    """The line of a test file where an error arose, and the error."""
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
    return "\n".join([*(line or "" for line in lines[-1:]), "".join(traceback.format_exception_only(error)).strip()])


def by_unittest(files: list[str], say: Say) -> None:
    """Tests of unittest, by module, class and method."""
    call = unittest.TestCase.run

    class Told(unittest.TestResult):
        """Says each test's end as it comes."""

        def addSuccess(self, test: unittest.TestCase) -> None:
            say(test.id(), "passed", "")

        def addFailure(self, test: unittest.TestCase, err: Any) -> None:
            say(test.id(), "failed", words_of(err[1], ".py"))

        def addError(self, test: unittest.TestCase, err: Any) -> None:
            say(test.id(), "failed", words_of(err[1], ".py"))

        def addSkip(self, test: unittest.TestCase, reason: str) -> None:
            say(test.id(), "skipped", reason)

        def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
            say(test.id(), "passed", "")

        def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
            say(test.id(), "failed", "an unexpected success")

        def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
            if err is not None:
                say(test.id(), "failed", words_of(err[1], ".py"))

    for file in files:
        name = file.removesuffix(".py").replace("/", ".")
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName(name)
        except BaseException as error:  # noqa: BLE001 - of the repository, SystemExit included
            say(name, "failed", words_of(error, ".py"))
            continue
        for test in _flat(suite):
            call(test, Told())
        for number, must in enumerate((_unequal, _untrue, _unraised, _broken)):
            bound = type("MustFail", (unittest.TestCase,), {"runTest": must})()
            call(bound, _Canary(say, f"{MUST} {file} {number}"))


class _Canary(unittest.TestResult):
    """Says whether what must fail failed."""

    def __init__(self, say: Say, name: str) -> None:
        super().__init__()
        self._say, self._name = say, name

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._say(self._name, "passed", "")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._say(self._name, "passed", "")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._say(self._name, "failed", "")

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._say(self._name, "failed", "")


def _unequal(self: unittest.TestCase) -> None:
    self.assertEqual([1, 2], [1, 3])  # noqa: PT009


def _untrue(self: unittest.TestCase) -> None:
    self.assertTrue(1 > 2)  # noqa: PT009


def _unraised(self: unittest.TestCase) -> None:
    with self.assertRaises(ValueError):  # noqa: PT027
        len("")


def _broken(self: unittest.TestCase) -> None:
    raise RuntimeError


def _flat(suite: Any) -> list[unittest.TestCase]:
    return [test for part in suite for test in (_flat(part) if isinstance(part, unittest.TestSuite) else [part])]


def _crash(told: Any) -> str:
    """The line of a test where an error arose, and the error."""
    crash = getattr(told, "reprcrash", None)
    if crash is None:
        return ""
    lines = [line[1:].strip() for line in told.reprtraceback.reprentries[0].lines if line.startswith(">")]
    return "\n".join([*lines[:1], crash.message])[:400]


def by_pytest(files: list[str], say: Say) -> None:
    """Tests of pytest, by node id."""
    import pytest

    class Told:
        """A plugin that says each test's end as it comes."""

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.outcome != "passed":
                xfailed = hasattr(report, "wasxfail")
                ending = "skipped" if xfailed and report.outcome == "passed" else report.outcome
                say(report.nodeid, ending, _crash(report.longrepr))

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed:
                say(report.nodeid, "failed", str(report.longrepr))

    options = [
        "-o",
        "addopts=",
        "-o",
        "xfail_strict=false",
        "-p",
        "no:cacheprovider",
        "--continue-on-collection-errors",
    ]
    if pytest.main([*options, *files], plugins=[Told()]) == pytest.ExitCode.USAGE_ERROR:
        say("pytest", "failed", "pytest cannot begin: a conftest.py does not import, or a test file is not there")
    must = "/box/tmp/test_must_fail.py"
    with open(must, "w") as file:
        file.write(
            "import pytest\ndef test_equal(): assert [1, 2] == [1, 3]\ndef test_raises():\n    with pytest.raises(ValueError): len('')\ndef test_broken(): raise RuntimeError\n"
        )

    class Canary:
        """Says whether what must fail failed."""

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call":
                say(f"{MUST} {report.nodeid}", report.outcome, "")

    pytest.main([*options, "-c", os.devnull, "--rootdir=/box/tmp", "--noconftest", must], plugins=[Canary()])


if __name__ == "__main__":
    main()
