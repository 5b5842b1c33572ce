"""What is refused, in which words, and that nothing stays behind."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from openk2.engine.runner import Runner
from openk2.engine.server.vocabulary import Vocabulary
from openk2.model.transformer import Transformer
from openk2.text.chat import ChatFormat
from tests.engine.server.conftest import Running, make_engine

KEY = "sesame-é"
CHAT: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
TEXT: Any = {"model": "tiny", "prompt": "hi", "max_tokens": 4}
NOTE: Any = {"type": "function", "function": {"name": "note", "parameters": {"type": "nope"}}}


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "code"),
    [
        ("chat/completions", {**CHAT, "model": "gpt-4"}, 404, "model", "model_not_found"),
        ("completions", {**TEXT, "model": "gpt-4"}, 404, "model", "model_not_found"),
        ("completions", {**TEXT, "prompt": "x" * 9000}, 400, None, "context_length_exceeded"),
        ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": "é" * 9000}]}, 400, None,
         "context_length_exceeded"),
        ("completions", {**TEXT, "prompt": [607, 608]}, 400, "prompt", None),
        ("completions", {**TEXT, "prompt": []}, 400, "prompt", None),
        ("completions", {**TEXT, "prompt": ""}, 400, "prompt", None),
        ("completions", {**TEXT, "suffix": "end"}, 400, "suffix", None),
        ("completions", {**TEXT, "max_tokens": 0}, 400, "max_tokens", None),
        ("completions", {**TEXT, "n": 10**9}, 400, "n", None),
        ("completions", {**TEXT, "n": 10**30}, 400, "n", None),
        ("chat/completions", {**CHAT, "n": 0}, 400, "n", None),
        ("chat/completions", {**CHAT, "temperature": "hot"}, 400, "temperature", None),
        ("chat/completions", {**CHAT, "presence_penalty": 1}, 400, "presence_penalty", None),
        ("chat/completions", {**CHAT, "color": "red"}, 400, "color", None),
        ("chat/completions", {**CHAT, "messages": []}, 400, "messages", None),
        ("chat/completions", {**CHAT, "messages": [{"role": "bard", "content": "hi"}]}, 400, "messages.0", None),
        ("chat/completions", {**CHAT, "messages": [{"role": "tool", "content": "", "tool_call_id": "x"}]}, 400,
         "messages.0.tool_call_id", None),
        ("chat/completions", {**CHAT, "tool_choice": "required"}, 400, "tool_choice", None),
        ("chat/completions", {**CHAT, "tool_choice": {"type": "function", "function": {"name": "x"}}}, 400,
         "tool_choice", None),
        ("chat/completions", {**CHAT, "tools": [NOTE, NOTE]}, 400, "tools", None),
        ("chat/completions", {**CHAT, "tools": [NOTE], "tool_choice": "required"}, 400, None, "invalid_schema"),
        ("chat/completions", {**CHAT, "top_logprobs": 2}, 400, "top_logprobs", None),
        ("completions", {**TEXT, "prompt": "\ud800"}, 400, "prompt", None),
        ("nowhere", TEXT, 404, None, None),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_what_is_wrong(
    server: Running, path: str, body: Any, status: int, param: str | None, code: str | None
) -> None:
    response = httpx2.post(f"{server.address}/v1/{path}", content=json.dumps(body), headers=JSON, timeout=30)
    error = response.json()["error"]
    assert response.status_code == status, error
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert (error["param"] or "").startswith(param or "")
    assert error["code"] == code


ENDLESS_REF: Any = {"$ref": "#"}
LATE_REF: Any = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]}
LARGE: Any = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2500)}}


@pytest.mark.parametrize(
    "schema", [ENDLESS_REF, LATE_REF, LARGE, {"type": "nope"}], ids=["endless", "late", "large", "nope"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_followed_is_named_before_anything_is_sampled(
    server: Running, schema: Any, stream: bool
) -> None:
    good = {"type": "function", "function": {"name": "good", "strict": True}}
    strict = {"type": "function", "function": {"name": "note", "parameters": schema, "strict": True}}
    answer = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    asked: Any = [
        ("tool note, parameters", {"tools": [good, strict]}),
        ("response_format", {"response_format": answer}),
    ]
    before = server.served.engine.num_sampled_tokens
    for name, more in asked:
        response = server.post("/v1/chat/completions", {**CHAT, "stream": stream, **more})
        assert response.status_code == 400
        error = response.json()["error"]
        assert error["code"] == "invalid_schema"
        assert error["message"].startswith(f"{name}: this schema ")
        assert error["message"].endswith("]")
    assert server.served.engine.num_sampled_tokens == before


JSON = {"Content-Type": "application/json"}
JSON_HEAD = "Content-Type: application/json\r\n"


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b"null", b"\xff", b"[" * 100_000, b'{"model": NaN}'])
def test_a_body_that_is_no_request(server: Running, body: bytes) -> None:
    response = httpx2.post(server.address + "/v1/completions", content=body, headers=JSON, timeout=30)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_models_health_metrics_and_page(server: Running) -> None:
    models = httpx2.get(server.address + "/v1/models").json()
    assert [card["id"] for card in models["data"]] == ["tiny"]
    assert httpx2.get(server.address + "/v1/models/tiny").json() == models["data"][0]
    assert httpx2.get(server.address + "/v1/models/other").status_code == 404
    assert httpx2.get(server.address + "/health").json()["status"] == "ok"
    server.post("/v1/completions", TEXT)
    figures = httpx2.get(server.address + "/metrics").text
    assert 'openk2_requests_total{path="/v1/completions",status="200"}' in figures
    assert "openk2_running 0.0" in figures
    assert "openk2_sampled_tokens_total" in figures
    assert "<title>" in httpx2.get(server.address + "/").text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_does_not_say_it_is_json(server: Running, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    body = json.dumps(TEXT).encode()
    response = httpx2.post(server.address + "/v1/completions", content=body, headers=headers, timeout=30)
    assert response.status_code == 415
    assert f"must be application/json, it is {kind or 'missing'}" in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "localhost:1@evil", "[::1", "", "10.0.0.1"])
def test_another_name_for_this_machine_is_refused(server: Running, name: str) -> None:
    response = httpx2.get(server.address + "/health", headers={"Host": name})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "wrong_host"


@pytest.mark.parametrize("name", ["localhost", "LocalHost:1", "127.0.0.1:8000", "127.8.8.8", "[::1]", "[::1]:8000"])
def test_this_machines_own_names_are_not(server: Running, name: str) -> None:
    assert httpx2.get(server.address + "/health", headers={"Host": name}).status_code == 200


def test_names_are_looked_at_on_all_of_loopback(
    model: Transformer, chat_format: ChatFormat, vocabulary: Vocabulary
) -> None:
    with Running(make_engine(model, chat_format), vocabulary, host="127.0.0.2") as running:
        health = running.address.replace("127.0.0.1", "127.0.0.2") + "/health"
        assert httpx2.get(health).status_code == 200
        assert httpx2.get(health, headers={"Host": "evil.example"}).status_code == 400


def test_a_client_that_does_not_read_is_hung_up_on(
    model: Transformer, chat_format: ChatFormat, vocabulary: Vocabulary
) -> None:
    engine = make_engine(model, chat_format, stop=frozenset())
    scored: Any = {"prompt": [5] * 500, "echo": True, "logprobs": 20}  # megabytes: more than the kernel takes
    body = json.dumps({"model": "tiny", "n": 16, "max_tokens": 500, "stream": True, **scored})
    with Running(engine, vocabulary, request_seconds=0.5) as running, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", int(running.address.rsplit(":", 1)[1])))
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n{JSON_HEAD}Content-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        running.wait_for(lambda: running.served.num_admitted == 16, "the request to be let in")
        running.wait_until_idle()
        connection.settimeout(10)
        last = b""
        while some := connection.recv(1 << 20):
            last = (last + some)[-5:]
        assert last != b"0\r\n\r\n"  # cut off, not ended


@pytest.fixture(scope="module")
def strict(model: Transformer, chat_format: ChatFormat, vocabulary: Vocabulary) -> Iterator[Running]:
    """A server with a key and tight limits."""
    limits: Any = {"api_key": KEY, "max_queue": 1, "max_body_bytes": 2000, "body_seconds": 0.5, "request_seconds": 1.5}
    with Running(
        make_engine(model, chat_format, rows=1, context=2048, stop=frozenset()), vocabulary, **limits
    ) as running:
        yield running
        running.wait_until_idle()


BEARER = {"Authorization": f"Bearer {KEY}".encode()}


@pytest.mark.parametrize("token", [None, b"Bearer", b"Bearer wrong", KEY.encode(), b"Bearer \xff"])
def test_without_the_key_nothing_is_answered(strict: Running, token: bytes | None) -> None:
    headers: Any = {} if token is None else {"Authorization": token}
    response = httpx2.post(strict.address + "/v1/completions", json=TEXT, headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert KEY not in response.text


def test_with_the_key_it_is(strict: Running) -> None:
    assert httpx2.post(strict.address + "/v1/completions", json=TEXT, headers=BEARER).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large(strict: Running, chunked: bool) -> None:
    body = json.dumps({**TEXT, "prompt": "x" * 3000}).encode()
    content: Any = iter([body[:1500], body[1500:]]) if chunked else body
    response = httpx2.post(strict.address + "/v1/completions", content=content, headers=BEARER | JSON)
    assert response.status_code == 413


def test_a_body_too_slow(strict: Running) -> None:
    host, port = strict.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Authorization: Bearer {KEY}\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


ENDLESS: Any = {"model": "tiny", "prompt": "def", "max_tokens": 2000, "logprobs": 0}


def worst_health(server: Running, path: str, body: Any) -> tuple[httpx2.Response, float]:
    """The answer to a request, and the longest that ``/health`` took meanwhile."""
    answers: list[httpx2.Response] = []
    asking = threading.Thread(target=lambda: answers.append(server.post(path, body)))
    worst = 0.0
    with httpx2.Client(timeout=60) as client:
        client.get(server.address + "/health")
        asking.start()
        while asking.is_alive():
            started = time.perf_counter()
            client.get(server.address + "/health")
            worst = max(worst, time.perf_counter() - started)
            time.sleep(0.01)
    return answers[0], worst


CALL: Any = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
# The tokenizer's longest token has 47 bytes, the context 1024 tokens: 44,000 characters might fit.
LONG: Any = [
    ("completions", {**TEXT, "prompt": "a b " * 900_000}),
    ("completions", {**TEXT, "prompt": ["a b " * 11_000] * 80}),
    ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": "a b " * 900_000}]}),
    ("chat/completions", {**CHAT, "messages": [{"role": "assistant", "tool_calls": [CALL]}] * 8000}),
]


@pytest.mark.parametrize(("path", "body"), LONG, ids=["prompt", "prompts", "message", "calls"])
def test_what_is_much_too_long_keeps_nobody_waiting(server: Running, path: str, body: Any) -> None:
    refused, worst = worst_health(server, f"/v1/{path}", body)
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert worst < 1.0


def endless(strict: Running, **more: Any) -> httpx2.Response:
    return httpx2.post(strict.address + "/v1/completions", json=ENDLESS | more, headers=BEARER, timeout=30)


def test_what_takes_too_long_is_given_up(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    never_ending(strict, monkeypatch)
    assert endless(strict).status_code == 504
    events = endless(strict, stream=True).text.strip().split("\n\n")
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "timeout"
    assert events[-1] == "data: [DONE]"
    strict.wait_until_idle()


def test_a_full_queue_says_when_to_come_again(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    never_ending(strict, monkeypatch)
    askers = [threading.Thread(target=endless, args=(strict,)) for _ in range(2)]
    for asker in askers:
        asker.start()
    strict.wait_for(lambda: strict.served.num_admitted == 2, "one running and one waiting")
    refused = endless(strict)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    for asker in askers:
        asker.join()
    strict.wait_until_idle()


SCORED: Any = {"model": "tiny", "prompt": [[7] * 900] * 8, "echo": True, "logprobs": 1, "max_tokens": 0}


def slowed_scoring(server: Running, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    score = server.served.engine._score

    def slow(*args: Any) -> Any:
        time.sleep(seconds)
        return score(*args)

    monkeypatch.setattr(server.served.engine, "_score", slow)


def test_scoring_has_its_place_in_the_queue(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    slowed_scoring(server, monkeypatch, 0.1)
    asking = threading.Thread(target=server.post, args=("/v1/completions", SCORED))
    asking.start()
    server.wait_for(lambda: server.served.num_admitted == 8, "eight prompts to be let in")
    asking.join()
    server.wait_until_idle()


def test_scoring_has_one_time_limit_for_all_prompts(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    slowed_scoring(strict, monkeypatch, 1.0)
    started = time.monotonic()
    late = endless(strict, prompt=[[7], [8]], echo=True, logprobs=1, max_tokens=0)
    assert late.status_code == 504
    assert time.monotonic() - started < 1.9
    strict.wait_until_idle()


def test_scoring_beyond_the_queue_is_refused(strict: Running) -> None:
    assert endless(strict, prompt=[[7]] * 3, echo=True, logprobs=1, max_tokens=0).status_code == 429
    strict.wait_until_idle()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(strict: Running, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    never_ending(strict, monkeypatch)
    started = time.monotonic()
    host, port = strict.address.removeprefix("http://").split(":")
    body = json.dumps({**ENDLESS, "stream": stream})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}\r\nAuthorization: Bearer {KEY}\r\n\r\n{body}".encode())
        strict.wait_for(lambda: strict.served.engine.num_running == 1, "the answer to begin")
    strict.wait_until_idle()
    assert time.monotonic() - started < strict.config.request_seconds  # not the time limit that freed it


def test_a_model_that_breaks_is_said_to(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "logits", broken)
        for failed in (endless(strict, prompt="out of luck"), endless(strict, prompt="out of luck", stream=True)):
            assert failed.status_code == 503
            assert "out of luck" in failed.json()["error"]["message"]
    strict.wait_until_idle()
    assert httpx2.post(strict.address + "/v1/completions", json=TEXT, headers=BEARER).status_code == 200  # it goes on


def never_ending(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow the engine down, however it computes, so that no answer is done within the time limit."""
    step = strict.served.engine._step

    def slow() -> Any:
        time.sleep(0.02)
        return step()

    monkeypatch.setattr(strict.served.engine, "_step", slow)
