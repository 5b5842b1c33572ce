"""Others' packages for the tests: in this interpreter, or in the one that OPENK2_PYTHON_REASONING_GYM and its like name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def python_with() -> Callable[[str], str]:
    """The interpreter that has a module; the test is skipped where there is none."""

    def find(module: str) -> str:
        variable = f"OPENK2_PYTHON_{module.upper()}"
        python = os.environ.get(variable, sys.executable)
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        if subprocess.run([python, "-P", "-c", probe], timeout=30).returncode:
            pytest.skip(f"{module} is not installed; {variable} may name an interpreter that has it")
        return python

    return find
