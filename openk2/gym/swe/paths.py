"""What in a repository is source, what is a test, and what an agent's changes may touch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

_TEST_FOLDERS = frozenset({"test", "tests", "testing"})
_HOOKS = frozenset(
    {"conftest.py", "sitecustomize.py", "usercustomize.py", "setup.py", "noxfile.py", "tasks.py", "fabfile.py"}
)


def is_test(path: str) -> bool:
    """A file that holds tests."""
    place = PurePosixPath(path)
    named = place.stem.startswith("test_") or place.stem.endswith("_test") or place.stem == "tests"
    return place.suffix == ".py" and named


def is_source(path: str) -> bool:
    """A Python file that is neither a test, nor in a folder of tests, nor run by tools."""
    place = PurePosixPath(path)
    return (
        place.suffix == ".py"
        and not is_test(path)
        and place.name not in _HOOKS
        and not _TEST_FOLDERS & set(place.parts)
        and not any(part.startswith(".") for part in place.parts)
    )


def may_change(path: str, original: Collection[str]) -> bool:
    """Whether the judge takes over this file: a source file that was there, or a new one inside a package that was there.

    Nothing else: no new top-level module that takes the place of another, no test, no setting of a tool.
    """
    if not is_source(path):
        return False
    packages = {
        str(PurePosixPath(name).parent) for name in original if name.endswith("/__init__.py") and is_source(name)
    }
    return path in original or any(str(parent) in packages for parent in PurePosixPath(path).parents)


def judged_tree(original: Mapping[str, str], tests: Mapping[str, str], changed: Mapping[str, str]) -> dict[str, str]:
    """The tree that is judged: the original, with the changes that count, and the tests that decide as they were."""
    gone = {path for path in original if is_source(path) and path not in changed}
    kept = {path: text for path, text in original.items() if path not in gone}
    taken = {path: text for path, text in changed.items() if may_change(path, original)}
    return kept | taken | dict(tests)
