from __future__ import annotations

import ast
import inspect
import itertools
import json
import random

import pytest

from openk2.schema import ToolSpec
from openk2.text.chat import ChatFormat
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer


def sample_texts() -> list[str]:
    """Python source, prose and records: enough to learn a small vocabulary from."""
    rng = random.Random(0)
    sources = [inspect.getsource(module) for module in (ast, inspect, json)]
    names = ["".join(rng.choice("bdkmrstvz") + rng.choice("aeiou") for _ in range(3)) for _ in range(300)]
    records = [json.dumps({"id": f"K-{i}", "owner": name}, separators=(",", ":")) for i, name in enumerate(names)]
    prose = [f"{a.title()} asks {b.title()} for order {i}." for i, (a, b) in enumerate(itertools.pairwise(names))]
    return [*sources, *records, *prose]


@pytest.fixture(scope="session")
def k2() -> Tokenizer:
    return Tokenizer.train(sample_texts(), TokenizerConfig(vocab_size=1024, splitting="k2"))


@pytest.fixture(scope="session")
def copy() -> Tokenizer:
    return Tokenizer.train(sample_texts(), TokenizerConfig(vocab_size=1024, splitting="copy", json_atoms=True))


@pytest.fixture(scope="session", params=["k2", "copy"])
def tokenizer(request: pytest.FixtureRequest, k2: Tokenizer, copy: Tokenizer) -> Tokenizer:
    return {"k2": k2, "copy": copy}[request.param]


@pytest.fixture(scope="session")
def chat(copy: Tokenizer) -> ChatFormat:
    return ChatFormat(copy)


@pytest.fixture(scope="session")
def get_order() -> ToolSpec:
    parameters = {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}
    return ToolSpec("get_order", "Look up an order.", parameters)
