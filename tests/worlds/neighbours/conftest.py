import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data():
    """The folder with tau2, bfcl and acebench_en, which OPENK2_DATA names; without it the test is skipped."""
    named = os.environ.get("OPENK2_DATA")
    if not named:
        pytest.skip("OPENK2_DATA does not name a folder with the benchmarks' files")
    return Path(named)
