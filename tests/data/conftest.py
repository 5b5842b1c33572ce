from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from openk2.data.config import DataConfig, SourceConfig
from openk2.data.copying import copying
from openk2.data.knowledge import knowledge
from openk2.data.store import build
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [document.text for source in (copying, knowledge) for document in islice(source(0), 300)]
    return Tokenizer.train(texts, TokenizerConfig(vocab_size=640, splitting="copy", json_atoms=True))


@pytest.fixture(scope="session")
def data() -> DataConfig:
    return DataConfig(
        sources=(
            SourceConfig(kind="copying", weight=3, max_tokens=30_000),
            SourceConfig(kind="knowledge", weight=1, max_tokens=12_000),
        ),
        heldout_fraction=0.1,
        seed=5,
    )


@pytest.fixture(scope="session")
def store(data: DataConfig, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    build(data, tokenizer, folder)
    return folder
