"""Bugs put into any package with tests, by changing one place of its syntax tree; kept when a test fails through it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random

from openk2.gym.single_turn import split_of
from openk2.gym.swe.paths import is_source, is_test
from openk2.gym.swe.suite import LIMITS, Run, Runner, run_tests
from openk2.gym.swe.task import Repair
from openk2.sandbox.config import Limits
from openk2.schema import Task
from openk2.worlds.execution.python import SWAPS


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of one try: a task, or why there is none."""

    reason: str
    task: Task | None = None


def changes(source: str) -> dict[int, list[str]]:
    """The source with one place changed, for every place in a function, by the line where that function begins, decorators included.

    A place is an operator, a number, ``and``/``or``, or ``not``; the rest stays as written.
    """
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found: dict[int, list[str]] = {}
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    # Outer functions come first, so that what is in an inner one is the inner one's.
    within = {node: function for function in functions for part in function.body for node in ast.walk(part)}
    for node, function in within.items():
        begins = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        for other in _others(node):
            assert isinstance(node, ast.expr)
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            text = source.encode()
            changed = (text[:start] + f"({ast.unparse(other)})".encode() + text[end:]).decode()
            found.setdefault(begins, []).append(changed)
    return found


def _others(node: ast.AST) -> list[ast.expr]:
    """What may stand in the place of an expression."""
    other = copy.deepcopy(node)
    match other:
        case ast.BinOp(op=op) if type(op) in SWAPS:
            other.op = SWAPS[type(op)]()  # type: ignore[assignment]
        case ast.Compare(ops=[op, *rest]) if type(op) in SWAPS:
            other.ops = [SWAPS[type(op)](), *rest]  # type: ignore[list-item]
        case ast.BoolOp(op=op):
            other.op = ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return [operand]
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return [ast.Constant(value + 1)]
        case ast.Constant(value=bool() as value):
            return [ast.Constant(not value)]
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return [ast.IfExp(test, orelse, body)]
        case _:
            return []
    return [other]


async def inject(
    tree: Mapping[str, str],
    runner: Runner,
    name: str,
    rng: Random,
    tries: int,
    *,
    packages: tuple[str, ...] = (),
    limits: Limits = LIMITS,
) -> list[Kept]:
    """So many bugs in a package, each in a place of its own in a function that the tests call, each with what came of it.

    ``tree`` is a package's files whose tests pass. The test files that find the bug are hidden from the agent. Raises ValueError for
    a tree in which no test passes.
    """
    tests = {path: text for path, text in tree.items() if is_test(path)}
    if not tests:
        raise ValueError(f"{name} has no tests")
    before = await run_tests(tree, sorted(tests), runner, packages=packages, limits=limits, reach=True)
    again = await run_tests(tree, sorted(tests), runner, packages=packages, limits=limits)
    # A test that ends otherwise the second time says nothing.
    before = replace(before, endings=dict(before.endings.items() & again.endings.items()))
    if not before.passed:
        raise ValueError(
            f"{name}: no test passes ({before.outcome}; {next(iter(before.why.values()), 'none found')!r})"
        )
    places: dict[str, dict[int, list[str]]] = {}
    for path in sorted({path for path, _ in before.called if path in tree and is_source(path)}):
        called = {line: found for line, found in changes(tree[path]).items() if (path, line) in before.called}
        places |= {path: called} if called else {}
    found = []
    for _, (path, wrong) in zip(range(tries), _drawn(places, rng), strict=False):
        run = await run_tests({**tree, path: wrong}, sorted(tests), runner, packages=packages, limits=limits)
        found.append(_kept(tree, tests, path, wrong, before, run, runner, name, packages))
    return found


def _drawn(places: dict[str, dict[int, list[str]]], rng: Random) -> Iterator[tuple[str, str]]:
    """The places in random order: a file, a function in it, a place in that. A long table of numbers weighs no more than a line of code."""
    while places:
        path = rng.choice(list(places))
        line = rng.choice(list(places[path]))
        yield path, places[path][line].pop(rng.randrange(len(places[path][line])))
        if not places[path][line]:
            del places[path][line]
        if not places[path]:
            del places[path]


def _kept(
    tree: Mapping[str, str], tests: Mapping[str, str], path: str, wrong: str, before: Run, run: Run, runner: Runner,
    name: str, packages: tuple[str, ...],
) -> Kept:  # fmt: skip
    if run.outcome == "failed":
        return Kept("the process of the tests dies")
    if run.outcome != "ok":
        return Kept(f"the run reached a limit: {run.outcome}")
    fails = sorted(before.passed - run.passed)  # those that are not found any more among them
    if not fails:
        return Kept("no test fails through it")
    if not run.passed:
        return Kept("no test passes any more")
    newly = {
        test for test, ending in run.endings.items() if ending == "failed" and before.endings.get(test) != "failed"
    }
    said = [run.why[test] for test in (*fails, *sorted(newly)) if test in newly]
    if not said:
        return Kept("no test says what fails")
    hiding = {file for file in tests if any(_in_file(test, file) for test in fails)}
    request = (
        f"Something in {name} went wrong with a recent change. For example, a check of it fails so:\n\n{said[0]}\n"
    )
    repair = Repair(
        request=request,
        files={place: text for place, text in {**tree, path: wrong}.items() if place not in hiding},
        tests=tests,
        runner=runner,
        fail_to_pass=fails,
        pass_to_pass=sorted(before.passed - set(fails)),
        gold={path: tree[path]},
        packages=packages,
    )
    return Kept("kept", repair.to_task(split_of(f"{name} {path} {wrong}"), "injected", (name,)))


def _in_file(test: str, file: str) -> bool:
    """Whether a test, as either runner names it, is in a file."""
    return test.startswith((f"{file}::", f"{file.removesuffix('.py').replace('/', '.')}."))
