import asyncio
import logging
import time
import traceback

import pytest

from openk2.jobs.executor import run_jobs
from openk2.llm.config import EndpointConfig
from openk2.llm.endpoint import Endpoint, EndpointError
from openk2.schema import CallError, ChatModel, Message, Sampling, ToolCall, ToolSpec
from tests.llm.server import KINDS, ChatServer, Failures
from tests.llm.server import error as refusal

ASK = [Message("user", "hello")]
TOOL = ToolSpec("get_order", "Read an order.", {"type": "object", "properties": {"order": {"type": "string"}}})


def config(server, **changes):
    patient = {"attempt_s": 1.0, "backoff_s": 0.02, "max_in_flight": 16}
    return EndpointConfig(base_url=server.base_url, model="m", **{**patient, **changes})


def ask(settings, messages=ASK, tools=(), sampling=Sampling()):  # noqa: B008 - frozen
    async def once():
        async with Endpoint(settings) as endpoint:
            try:
                return await endpoint.complete(messages, tools, sampling), endpoint.counters
            except (EndpointError, TimeoutError) as error:
                return error, endpoint.counters

    return asyncio.run(once())


def test_no_record_is_lost_when_one_call_in_ten_fails():
    async def everything(settings):
        async with Endpoint(settings) as endpoint:
            assert isinstance(endpoint, ChatModel)

            async def one(number):
                return (await endpoint.complete([Message("user", f"record {number}")], [], Sampling())).content

            outcomes = [outcome async for outcome in run_jobs(one, range(300), num_workers=64, limit_s=60)]
            return outcomes, endpoint.counters

    with ChatServer(failures=Failures(0.1, hang_s=1.5)) as server:
        outcomes, counters = asyncio.run(everything(config(server)))
    assert {outcome.item: outcome.value for outcome in outcomes} == {n: f"echo: record {n}" for n in range(300)}
    assert set(server.failed) == set(KINDS)  # each way of failing was met
    assert set(counters.retried) == set(KINDS)
    assert counters.retried.total() >= server.failed.total()  # a busy machine may add time-outs of its own
    assert counters.answered == 300
    assert counters.failed == 0
    assert counters.asked == 300 + counters.retried.total()
    assert (counters.prompt_tokens, counters.completion_tokens) == (2100, 900)
    assert server.most_open <= 16


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_fails_at_every_attempt_says_how(kind):
    with ChatServer(failures=Failures(1.0, kinds=(kind,), hang_s=1.0, retry_after_s=0.01)) as server:
        error, counters = ask(config(server, max_attempts=3, attempt_s=0.5))
    assert isinstance(error, EndpointError)
    assert f"m at {server.base_url}: every attempt failed (3 {kind}; the last: {kind}: " in str(error)
    assert counters.to_json() == {
        "asked": 3, "answered": 0, "cached": 0, "failed": 1, "retried": {kind: 2}, "prompt_tokens": 0,
        "completion_tokens": 0,
    }  # fmt: skip


def test_retry_after_is_honoured():
    with ChatServer(failures=Failures(1.0, kinds=("rate_limited",), retry_after_s=0.4)) as server:
        began = time.monotonic()
        _, counters = ask(config(server, max_attempts=2))
    assert counters.asked == 2
    assert time.monotonic() - began >= 0.4


def test_nobody_there_is_a_cut_connection():
    settings = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m", max_attempts=2, backoff_s=0.01)
    error, counters = ask(settings)
    assert isinstance(error, EndpointError)
    assert counters.retried == {"cut": 1}


def test_the_call_ends_at_its_time_limit_whatever_is_left_to_try():
    with ChatServer(failures=Failures(1.0, kinds=("timed_out",), hang_s=1.0)) as server:
        began = time.monotonic()
        error, counters = ask(config(server, attempt_s=0.3, call_s=0.5))
    assert isinstance(error, TimeoutError)
    assert "0.5 s; 1 timed_out" in str(error)
    assert time.monotonic() - began < 3
    assert counters.failed == 1


def test_waiting_for_a_turn_has_a_limit():
    async def two(settings):
        async with Endpoint(settings) as endpoint:
            return await asyncio.gather(
                *(endpoint.complete(ASK, [], Sampling()) for _ in range(2)), return_exceptions=True
            )

    with ChatServer(latency_s=0.4) as server:
        first, second = asyncio.run(two(config(server, max_in_flight=1, queue_s=0.1)))
    assert first.content == "echo: hello"
    assert isinstance(second, TimeoutError)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(("status", "code"), [(400, None), (401, None), (404, None), (429, "insufficient_quota")])
def test_what_would_come_again_is_not_asked_again(status, code):
    with ChatServer(lambda _: refusal(status, "not like this", code=code)) as server:
        error, counters = ask(config(server))
    assert isinstance(error, EndpointError)
    assert f"m at {server.base_url} refused: Error code: {status}" in str(error)
    assert "not like this" in str(error)
    assert (counters.asked, counters.failed) == (1, 1)


def test_a_second_run_asks_nothing(tmp_path):
    with ChatServer() as server:
        settings = config(server, cache=tmp_path / "answers.sqlite")
        first, counters = ask(settings)
        assert (counters.answered, counters.cached) == (1, 0)
        second, counters = ask(settings)
        assert (counters.asked, counters.cached) == (0, 1)
        assert first == second
        assert len(server.bodies) == 1
        ask(settings, sampling=Sampling(seed=1))  # another draw is another request
        assert len(server.bodies) == 2
    assert b"hello" not in (tmp_path / "answers.sqlite").read_bytes().replace(b"echo: hello", b"")


def test_failures_are_not_remembered(tmp_path):
    cache = tmp_path / "answers.sqlite"
    with ChatServer(failures=Failures(1.0, kinds=("bad_body",))) as server:
        assert isinstance(ask(config(server, max_attempts=1, cache=cache))[0], EndpointError)
    with ChatServer() as server:
        answer, _ = ask(config(server, cache=cache))
    assert answer.content == "echo: hello"


def test_tools_and_sampling_reach_the_server_in_openai_s_shape():
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=5, max_tokens=77, seed=3, stop=("END",))
    dialogue = [
        *ASK,
        Message("assistant", tool_calls=[ToolCall("call_1", "get_order", "{", CallError.BAD_JSON)]),
        Message("tool", "no such order", tool_call_id="call_1", name="get_order"),
    ]
    with ChatServer() as server:
        ask(config(server, max_tokens_name="max_completion_tokens", extra={"user": "u"}), dialogue, [TOOL], sampling)
    assert server.bodies == [
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "hello"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"id": "call_1", "type": "function", "function": {"name": "get_order", "arguments": "{"}}
                    ],
                },
                {"role": "tool", "content": "no such order", "tool_call_id": "call_1"},
            ],
            "tools": [TOOL.to_json()],
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 5,
            "max_completion_tokens": 77,
            "seed": 3,
            "stop": ["END"],
            "user": "u",
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "reason", "error"),
    [
        ('{"order": "K-1"}', "tool_calls", None),
        ('{"order": ', "tool_calls", CallError.BAD_JSON),
        ('{"order": ', "length", CallError.TRUNCATED),
        ('["K-1"]', "tool_calls", CallError.NOT_AN_OBJECT),
    ],
)
def test_calls_are_read_and_malformed_ones_kept(arguments, reason, error):
    call = {"id": "call_7", "type": "function", "function": {"name": "get_order", "arguments": arguments}}
    said = {"content": None, "tool_calls": [call], "finish_reason": reason}
    with ChatServer(lambda _: dict(said)) as server:
        answer, _ = ask(config(server), tools=[TOOL])
    assert answer == Message("assistant", "", [ToolCall("call_7", "get_order", arguments, error)])


def test_the_key_is_sent_and_never_said(monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    caplog.set_level(logging.DEBUG)
    with ChatServer() as server:
        ask(config(server, api_key_env="MY_KEY"))
    assert server.headers[0]["authorization"] == "Bearer sk-secret-123"
    assert "sk-secret-123" not in caplog.text
    assert "sk-secret-123" not in repr(config(server, api_key_env="MY_KEY"))


@pytest.mark.parametrize("status", [401, 503])
def test_a_server_that_repeats_the_key_is_not_repeated(monkeypatch, status):
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    with ChatServer(lambda _: refusal(status, "the key sk-secret-123 is wrong")) as server:
        error, _ = ask(config(server, api_key_env="MY_KEY", max_attempts=2))
    assert "the key … is wrong" in str(error)
    assert "sk-secret-123" not in "".join(traceback.format_exception(error))


def test_a_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ValueError, match=r"MY_KEY is not set: it holds the key of http://127\.0\.0\.1:1/v1"):
        Endpoint(EndpointConfig(base_url="http://127.0.0.1:1/v1", model="m", api_key_env="MY_KEY"))


def test_429s_shrink_the_window():
    async def many(settings):
        async with Endpoint(settings) as endpoint:
            calls = (endpoint.complete([Message("user", str(n))], [], Sampling()) for n in range(32))
            await asyncio.gather(*calls, return_exceptions=True)
            return endpoint._window.size

    with ChatServer(failures=Failures(1.0, kinds=("rate_limited",), retry_after_s=0.0)) as server:
        # 32 sent together and turned down together are one sign, not 32; so are the 24 after them.
        size = asyncio.run(many(config(server, max_in_flight=32, max_attempts=1)))
    assert size == pytest.approx(24)
