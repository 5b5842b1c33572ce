"""Python: a function with one bug, seeded by changing its syntax tree; visible tests to run, hidden ones to pass."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

from openk2.worlds.execution.exercise import Exercise, has, only

NUM_VISIBLE, NUM_HIDDEN = 3, 12
# Source, what it does in Python of ours, what it does in words; {k} is a number. The two sides check each other in the gates.
Step = tuple[str, Callable[[Any, int], Any], str]
KEEP_NUMBERS: tuple[Step, ...] = (
    ("[x for x in items if x > {k}]", lambda items, k: [x for x in items if x > k], "keep those above {k}"),
    ("[x for x in items if x % {k} == 1]", lambda items, k: [x for x in items if x % k == 1], "keep those that leave 1 by {k}"),
    ("items[{k}:]", lambda items, k: items[k:], "leave out the first {k}"),
)  # fmt: skip
CHANGE_NUMBERS: tuple[Step, ...] = (
    ("[x * {k} + 1 for x in items]", lambda items, k: [x * k + 1 for x in items], "multiply each by {k} and add 1"),
    ("[x + i * {k} for i, x in enumerate(items)]", lambda items, k: [x + i * k for i, x in enumerate(items)], "add {k} times its place to each, from 0"),
    ("[max(x, {k}) for x in items]", lambda items, k: [max(x, k) for x in items], "raise each to at least {k}"),
)  # fmt: skip
END_NUMBERS: tuple[Step, ...] = (
    ("sum(items) - {k}", lambda items, k: sum(items) - k, "return their sum less {k}"),
    ("[a + b * {k} for a, b in zip(items, items[1:])]", lambda items, k: [a + b * k for a, b in pairwise(items)], "return each plus {k} times the next"),
    ("len(items) * {k}", lambda items, k: len(items) * k, "return {k} times how many are left"),
)  # fmt: skip
KEEP_WORDS: tuple[Step, ...] = (
    ("[x for x in items if len(x) > {k}]", lambda items, k: [x for x in items if len(x) > k], "keep words of more than {k} letters"),
    ("[x[: {k}] for x in items]", lambda items, k: [x[:k] for x in items], "cut each to {k} letters"),
)  # fmt: skip
END_WORDS: tuple[Step, ...] = (
    ("{{x: items.count(x) + {k} for x in items}}", lambda items, k: {x: n + k for x, n in Counter[str](items).items()}, "return how often each occurs, plus {k}"),
    ("'-'.join(x * {k} for x in items)", lambda items, k: "-".join(x * k for x in items), "return them joined by '-', each written {k} times"),
    ("{{x: len(x) * {k} for x in items}}", lambda items, k: {x: len(x) * k for x in items}, "return {k} times the length of each"),
)  # fmt: skip
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Gt: ast.LtE, ast.Eq: ast.NotEq, ast.Mod: ast.Mult,
}  # fmt: skip
TESTS = """from solution import {name}

failed = 0
for given, wanted in {cases!r}:
    got = {name}(given)
    if got != wanted:
        failed += 1
        print(f"{name}({{given!r}}) is {{got!r}}, wanted {{wanted!r}}")
print(f"{{failed}} failed")
raise SystemExit(failed > 0)
"""


def write(rng: Random) -> Exercise:
    """A function of two or three steps over numbers or words, one of them wrong."""
    words = rng.random() < 0.4
    stages = (KEEP_WORDS, END_WORDS) if words else (KEEP_NUMBERS, CHANGE_NUMBERS, END_NUMBERS)
    steps = [(rng.choice(stage), rng.randint(2, 5)) for stage in stages]
    name = f"{rng.choice(('take', 'fold', 'weigh', 'mark', 'count'))}_{rng.choice(('parts', 'rows', 'marks', 'stops'))}"
    told = ", then ".join(words_for.format(k=k) for (_, _, words_for), k in steps)
    lines = [f"    items = {source.format(k=k)}" for (source, _, _), k in steps[:-1]]
    last = steps[-1][0][0].format(k=steps[-1][1])
    right = ast.unparse(ast.parse("\n".join([f"def {name}(items):", *lines, f"    return {last}"]))) + "\n"
    cases = [_input(rng, words) for _ in range(NUM_VISIBLE + NUM_HIDDEN)]
    outputs = []
    for case in cases:
        value: Any = case
        for (_, function, _), k in steps:
            value = function(value, k)
        outputs.append(value)
    wrong = mutate(right, rng)
    while not _differs(wrong, name, cases[NUM_VISIBLE:], outputs[NUM_VISIBLE:]):
        wrong = mutate(right, rng)
    tests = TESTS.format(name=name, cases=list(zip(cases, outputs, strict=True))[:NUM_VISIBLE])
    return Exercise(
        "fix",
        f"The function {name} in solution.py has a bug. Given a list of {'words' if words else 'numbers'} it should {told}. "
        "Some tests are in tests.py; other tests will be run too. Mend solution.py and change nothing else.",
        {"solution.py": wrong, "tests.py": tests},
        (
            ("run_tests", {}),
            ("read_file", {"path": "solution.py"}),
            ("write_file", {"path": "solution.py", "text": right}),
            ("run_tests", {}),
        ),
        (has("tests", "hidden", failed=0), only(("file", "solution.py"), ("tests", "hidden"))),
        inputs=tuple(cases[NUM_VISIBLE:]),
        outputs=tuple(outputs[NUM_VISIBLE:]),
    )


def mutate(source: str, rng: Random) -> str:
    """The source with one operator swapped or one number moved by one. Raises ValueError where there is nothing to change."""
    tree = ast.parse(source)
    places: list[tuple[ast.AST, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            places.append((node, "op"))
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            places.append((node, "ops"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            places.append((node, "value"))
    if not places:
        raise ValueError(f"nothing to change in {source!r}")
    node, what = rng.choice(places)
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int)
        node.value += rng.choice((-1, 1))
    elif isinstance(node, ast.Compare):
        node.ops = [SWAPS[type(node.ops[0])](), *node.ops[1:]]  # type: ignore[list-item]
    else:
        setattr(node, what, SWAPS[type(getattr(node, what))]())
    return ast.unparse(tree) + "\n"


def _differs(source: str, name: str, inputs: list[Any], outputs: list[Any]) -> bool:
    """Whether a function of ours, of comprehensions alone, gives another output for some input, or none."""
    namespace: dict[str, Any] = {}
    exec(compile(source, name, "exec"), namespace)
    try:
        return [namespace[name](given) for given in inputs] != outputs
    except (ArithmeticError, TypeError, ValueError):
        return True


def _input(rng: Random, words: bool) -> list[int] | list[str]:
    if words:
        return ["".join(rng.choices("abcdeo", k=rng.randint(1, 7))) for _ in range(rng.randint(3, 8))]
    return [rng.randint(-9, 30) for _ in range(rng.randint(4, 10))]
