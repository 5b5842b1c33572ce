"""The user's own Python installation as a corpus: real code and documentation that everyone has.

Three kinds of text, none within another: the standard library's sources, the topics of ``help()``, and the
documentation strings of modules that are compiled and so have no source here.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from pydoc_data import topics
from types import ModuleType

from openk2.data.documents import Skipped, read_text

# Tests and bundled packages are no prose of the library; topics.py is told topic by topic.
_NOT_SOURCES = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "pydoc_data"}
# Modules that act on the terminal when imported, or exist to test the interpreter.
_NOT_IMPORTED = {"readline", "_tkinter", "_curses", "_curses_panel", "nis", "ossaudiodev"}


@cache
def python_words() -> tuple[str, ...]:
    """The plain words of Python's own ``help()`` topics, sorted: real words that every installation has."""
    return tuple(sorted(set(re.findall(r"\b[a-z]{3,10}\b", " ".join(topics.topics.values())))))


def python_texts(seed: int, skipped: Skipped) -> Iterator[str]:
    """All texts, in an order that the seed decides. Raises ValueError when the sources are not on disk."""
    items: dict[str, Callable[[], str]] = {f"topic {name}": partial(str, text) for name, text in topics.topics.items()}
    for name in compiled_modules():
        items[f"module {name}"] = partial(module_documentation, name)
    root = Path(sysconfig.get_path("stdlib"))
    for path in _sources_below(root):
        items[f"source {path.relative_to(root).as_posix()}"] = partial(read_text, path, skipped)
    if not any(item.startswith("source ") for item in items):
        raise ValueError(f"this Python has no library sources under {root}: point a 'files' source at texts instead")
    for item in sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item}".encode()).digest()):
        yield items[item]()


def _sources_below(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _NOT_SOURCES]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def compiled_modules() -> list[str]:
    """The importable standard modules without Python source."""
    dynamic = Path(sysconfig.get_path("stdlib")) / "lib-dynload"
    names = set(sys.builtin_module_names) | {path.name.split(".")[0] for path in dynamic.glob("*.so")}
    return sorted(names - _NOT_IMPORTED - {name for name in names if name.startswith(("_test", "_xx", "xx"))})


def module_documentation(name: str) -> str:
    """What a module's names say of themselves; empty when it cannot be imported here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old modules announce their end
            module = importlib.import_module(name)
    except ImportError:
        return ""
    entries = [f"{name}\n\n{inspect.getdoc(module) or ''}"]
    for label, thing in sorted(vars(module).items()):
        if not label.startswith("_") and (callable(thing) or inspect.isclass(thing)):
            entries += _entry(f"{name}.{label}", thing)
            if inspect.isclass(thing):
                for member, inner in sorted(vars(thing).items()):
                    if not member.startswith("_") and not isinstance(inner, ModuleType):
                        entries += _entry(f"{name}.{label}.{member}", inner)
    return "\n\n".join(entries) if len(entries) > 1 else ""


def _entry(label: str, thing: object) -> list[str]:
    """Name, signature and documentation string of what has one of its own."""
    documentation = getattr(thing, "__doc__", None)
    if not isinstance(documentation, str) or not documentation.strip():
        return []
    signature = getattr(thing, "__text_signature__", None) or ""
    return [f"{label}{signature}\n{inspect.cleandoc(documentation)}"]
