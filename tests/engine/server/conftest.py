from __future__ import annotations

import ast
import inspect
import json

import pytest

from openk2.engine.server.vocabulary import Vocabulary
from openk2.text.chat import ChatFormat
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [inspect.getsource(module) for module in (ast, inspect, json)]
    return Tokenizer.train(texts, TokenizerConfig(vocab_size=600, splitting="copy", json_atoms=True))


@pytest.fixture(scope="session")
def chat_format(tokenizer: Tokenizer) -> ChatFormat:
    return ChatFormat(tokenizer)


@pytest.fixture(scope="session")
def vocabulary(tokenizer: Tokenizer, chat_format: ChatFormat) -> Vocabulary:
    return Vocabulary(tokenizer.to_json(), tokenizer.vocab_size + 8, chat_format.stop_ids)
