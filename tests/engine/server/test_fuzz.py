"""Whatever is sent, by the published schema or against it: an answer or a refusal, never a failure, never a stuck slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from openk2.engine.server.vocabulary import Vocabulary
from openk2.model.transformer import Transformer
from openk2.text.chat import ChatFormat
from tests.engine.server.conftest import Running, make_engine


@pytest.fixture(scope="module")
def fuzzed(model: Transformer, chat_format: ChatFormat, vocabulary: Vocabulary) -> Iterator[Running]:
    with Running(make_engine(model, chat_format, context=64), vocabulary, max_choices=4) as running:
        yield running
        running.wait_until_idle()
        assert running.served.engine.num_running == 0


def send(fuzzed: Running, modes: Sequence[GenerationMode], num_requests: int) -> None:
    """Requests to each operation of the published schema, a share for every one of ``modes``."""
    operations = [
        found.ok() for found in schemathesis.openapi.from_url(f"{fuzzed.address}/openapi.json").get_all_operations()
    ]
    assert {"/v1/models", "/v1/completions", "/v1/chat/completions"} <= {operation.path for operation in operations}
    posts = [(operation, mode) for operation in operations if operation.method.upper() == "POST" for mode in modes]
    for operation, mode in posts:
        send_to(operation.as_strategy(generation_mode=mode), num_requests // len(posts))


def send_to(cases: st.SearchStrategy[Any], num_requests: int) -> None:
    @settings(max_examples=num_requests, suppress_health_check=[*HealthCheck], database=None)
    @given(cases)
    def check(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "tiny"
            shorten(case.body)
        response = case.call(timeout=30)
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    check()


def shorten(body: dict[str, Any]) -> None:
    """Valid answers need not be long."""
    named = [name for name in ("max_tokens", "max_completion_tokens") if name in body]
    for name in named or ["max_tokens"]:
        if isinstance(body.get(name, 4), int):
            body[name] = min(body.get(name, 4), 4)


MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def test_a_few_hundred_requests(fuzzed: Running) -> None:
    send(fuzzed, MODES, 240)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_requests(fuzzed: Running) -> None:
    send(fuzzed, MODES, 10_000)
