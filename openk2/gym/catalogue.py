"""All families by name. Each is imported when it is asked for: some need extras, or programs of the system."""

from __future__ import annotations

import importlib

from openk2.gym.family import Family

NAMES = (
    "math",
    "logic",
    "tools",
    "scenario",
    "execution",
    "puzzles",
    "tables",
    "instructions",
    "safety",
    "stem",
    "faithfulness",
    "code",
    "swe",
    "writing",
)
"""Every family; its file or package is ``openk2.gym.NAME``, which holds a ``FAMILY``."""


def family(name: str) -> Family:
    """A family. Raises ValueError for an unknown one, and for one whose packages are missing, with what to install."""
    if name not in NAMES:
        raise ValueError(f"no task family called {name!r}; there are {', '.join(NAMES)}")
    found: Family = importlib.import_module(f"openk2.gym.{name}").FAMILY
    return found
