"""Small repositories put together from modules, with one bug in one of them."""

from __future__ import annotations

import ast
from random import Random

from openk2.gym.single_turn import split_of
from openk2.gym.swe.modules import MODULES, Bug, Module
from openk2.gym.swe.task import Repair
from openk2.schema import Task

_FIRST = ("north", "river", "amber", "field", "stone", "maple", "cedar", "harbour")
_SECOND = ("kit", "works", "box", "desk", "lab", "base")
_NUM_MODULES = 3


def problems(split: str) -> list[tuple[Module, Bug]]:
    """The bugs of a split: one bug is in the same split in whatever repository it is put."""
    pairs = [(module, bug) for module in MODULES for bug in module.bugs]
    return [(module, bug) for module, bug in pairs if split_of(f"{module.name}: {bug.right}") == split]


def write(split: str, rng: Random, module: Module, bug: Bug) -> Task:
    """A repository with the bug in it. The tests of the module that has it are hidden; those of the others are in the tree."""
    package = rng.choice(_FIRST) + rng.choice(_SECOND)
    others = rng.sample([other for other in MODULES if other is not module], _NUM_MODULES - 1)
    modules = sorted([module, *others], key=lambda one: one.name)
    files = {
        "README.md": f"# {package}\n\n" + "".join(f"- `{package}.{one.name}`: {_about(one)}\n" for one in modules)
        + "\nRun the tests with `python3 -m unittest`.\n",
        f"{package}/__init__.py": f'"""{package}: {", ".join(one.name for one in modules)}."""\n',
        "tests/__init__.py": "",
    }  # fmt: skip
    files |= {f"{package}/{one.name}.py": one.source for one in modules}
    tests = {f"tests/test_{one.name}.py": one.tests.replace("PACKAGE", package) for one in modules}
    place, hidden = f"{package}/{module.name}.py", f"tests/test_{module.name}.py"
    wrong = files[place].replace(bug.right, bug.wrong)
    names = [name for path, text in tests.items() for name in _names(path, text)]
    return Repair(
        request=f"In the package {package}: {bug.report}",
        files={path: text for path, text in (files | tests | {place: wrong}).items() if path != hidden},
        tests=tests,
        runner="unittest",
        fail_to_pass=[
            name for name in names if name.rpartition(".")[2] in bug.fails and f"test_{module.name}." in name
        ],
        pass_to_pass=[
            name for name in names if name.rpartition(".")[2] not in bug.fails or f"test_{module.name}." not in name
        ],
        gold={place: files[place]},
    ).to_task(split, "bundled", (module.name,))


def _about(module: Module) -> str:
    about = ast.get_docstring(ast.parse(module.source))
    assert about is not None, module.name
    return about[0].lower() + about[1:]


def _names(path: str, text: str) -> list[str]:
    """The ids that unittest gives to a file's tests."""
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    prefix = path.removesuffix(".py").replace("/", ".")
    return [
        f"{prefix}.{one.name}.{method.name}"
        for one in classes
        for method in one.body
        if isinstance(method, ast.FunctionDef) and method.name.startswith("test")
    ]
