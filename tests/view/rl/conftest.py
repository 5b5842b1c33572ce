from __future__ import annotations

from pathlib import Path

import pytest

from openk2.view.rl.read import Learning
from tests.view.rl.learning import make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 60 steps with 24 traces each; nothing may write into it."""
    return make(tmp_path_factory.mktemp("rl") / "made", 60)


@pytest.fixture(scope="session")
def learning(made: Path) -> Learning:
    learning = Learning(made)
    assert learning.poll()
    return learning
