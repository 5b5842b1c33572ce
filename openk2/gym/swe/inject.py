"""Bugs put into any package with tests, by changing one place of its syntax tree; kept when a test fails through it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from openk2.gym.single_turn import split_of
from openk2.gym.swe.paths import is_source, is_test
from openk2.gym.swe.suite import Run, Runner, run_tests
from openk2.gym.swe.task import Repair
from openk2.schema import Task
from openk2.worlds.execution.python import SWAPS


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of one try: a task, or why there is none."""

    reason: str
    task: Task | None = None


def changes(source: str) -> list[str]:
    """The source with one place changed, for every place in a function: an operator, a number, ``and``/``or``, ``not``; the rest as written."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found = []
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    for node in dict.fromkeys(node for function in functions for part in function.body for node in ast.walk(part)):
        for other in _others(node):
            assert isinstance(node, ast.expr)
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            text = source.encode()
            found.append((text[:start] + f"({ast.unparse(other)})".encode() + text[end:]).decode())
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
    tree: Mapping[str, str], runner: Runner, name: str, rng: Random, tries: int, *, packages: tuple[str, ...] = ()
) -> list[Kept]:
    """So many bugs in a package, each in a place of its own, each with what came of it.

    ``tree`` is a package's files whose tests pass. The test files that find the bug are hidden from the agent. Raises ValueError for
    a tree in which no test passes.
    """
    tests = {path: text for path, text in tree.items() if is_test(path)}
    if not tests:
        raise ValueError(f"{name} has no tests")
    before = await run_tests(tree, sorted(tests), runner, packages=packages)
    if not before.passed:
        raise ValueError(
            f"{name}: no test passes ({before.outcome}; {next(iter(before.why.values()), 'none found')!r})"
        )
    places = []
    for path, text in tree.items():
        if is_source(path):
            try:
                places += [(path, changed) for changed in changes(text)]
            except SyntaxError:
                continue  # a template, or Python of another version
    found = []
    for path, wrong in rng.sample(places, min(tries, len(places))):
        run = await run_tests({**tree, path: wrong}, sorted(tests), runner, packages=packages)
        found.append(_kept(tree, tests, path, wrong, before, run, runner, name, packages))
    return found


def _kept(
    tree: Mapping[str, str], tests: Mapping[str, str], path: str, wrong: str, before: Run, run: Run, runner: Runner,
    name: str, packages: tuple[str, ...],
) -> Kept:  # fmt: skip
    fails = sorted(test for test in before.passed if run.endings.get(test) == "failed")
    if run.outcome not in ("ok", "failed"):
        return Kept(f"the run reached a limit: {run.outcome}")
    if not fails:
        return Kept("no test fails through it" if run.passed >= before.passed else "the tests are not found any more")
    if not run.passed:
        return Kept("no test passes any more")
    hiding = {file for file in tests if any(_in_file(test, file) for test in fails)}
    request = f"Something in {name} went wrong with a recent change. For example, a check of it fails so:\n\n{run.why[fails[0]]}\n"
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
