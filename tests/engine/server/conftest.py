from __future__ import annotations

import ast
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.engine.server.answers import Served
from openk2.engine.server.config import ServerConfig
from openk2.engine.server.metrics import Metrics
from openk2.engine.server.serve import Server, listen
from openk2.engine.server.vocabulary import Vocabulary
from openk2.model.hf import save_hf
from openk2.model.transformer import Transformer
from openk2.text.chat import ChatFormat
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer
from tests.engine.conftest import MODEL as SHAPE


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


MODEL = SHAPE.model_copy(update={"vocab_size": 608, "num_layers": 2, "max_positions": 2048})


class Running:
    """A server on a free port, in a thread of its own."""

    def __init__(self, engine: Engine, vocabulary: Vocabulary, **limits: Any) -> None:
        self.config = ServerConfig(port=0, **limits)
        self.served = Served("tiny", engine, vocabulary, self.config, Metrics(engine))
        self._socket = listen(self.config)
        self._server = Server(self.served)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Running:
        self._thread.start()
        self.wait_for(lambda: self._server.started, "the server to start")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        self.served.engine.close()
        self._socket.close()

    def wait_for(self, true: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.005)

    def wait_until_idle(self) -> None:
        engine = self.served.engine
        idle = lambda: not (engine.num_running or engine.num_waiting or self.served.num_admitted)  # noqa: E731
        self.wait_for(idle, "every slot to be free")

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        return httpx2.post(self.address + path, json=body, headers=headers, timeout=60)


@pytest.fixture(scope="session")
def model() -> Transformer:
    return Transformer(MODEL).initialize(0)


def make_engine(
    model: Transformer, chat_format: ChatFormat | None, *, rows: int = 16, context: int = 1024, stop: Any = None
) -> Engine:
    config = EngineConfig(max_rows=rows, max_context=context)
    return Engine(model, chat_format, config, stop_ids=stop, threaded=True)


@pytest.fixture(scope="module")
def server(model: Transformer, chat_format: ChatFormat, vocabulary: Vocabulary) -> Iterator[Running]:
    with Running(make_engine(model, chat_format), vocabulary) as running:
        yield running
        running.wait_until_idle()  # whatever the tests did, no slot is stuck


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.address + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def folder(model: Transformer, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in Hugging Face layout."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_hf(model, path, dtype=torch.float32)
    tokenizer.save(path / "tokenizer.json")
    return path
