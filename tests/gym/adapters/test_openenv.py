from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openk2.gym.adapters.config import OpenEnvConfig
from openk2.gym.adapters.openenv import OpenEnv
from openk2.gym.agents import DISHONEST, play
from openk2.schema import Env, Message, ToolCall, Trace

pytest.importorskip("websockets", reason="pip install websockets")
SERVER = Path(__file__).parent / "openenv_server.py"
pytestmark = pytest.mark.slow  # a server takes half a minute to import what it stands on


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(python: str, kind: str) -> tuple[subprocess.Popen[bytes], str]:
    port = free_port()
    server = subprocess.Popen([python, str(SERVER), kind, str(port)])
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"http://127.0.0.1:{port}"
        time.sleep(0.1)
    server.kill()
    server.wait()
    raise AssertionError(f"the server did not start: {server.returncode}")


@pytest.fixture(scope="module", params=["guessing", "tools"])
def url(request: pytest.FixtureRequest, python_with: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    server, address = start(python_with("openenv"), request.param)
    yield request.param, address
    server.kill()
    server.wait()


def env_at(url: str, **changes: Any) -> OpenEnv:
    return OpenEnv(OpenEnvConfig(url=url, kind="guessing", prompt="Play.", max_steps=8, step_s=2, **changes))


def calls(name: str, *numbers: Any) -> list[Message]:
    return [
        Message("assistant", tool_calls=[ToolCall(f"functions.{name}:{i}", name, json.dumps({"number": number}))])
        for i, number in enumerate(numbers)
    ]


def played(env: OpenEnv, moves: list[Message], index: int = 0) -> Trace:
    return asyncio.run(play(env, env.tasks("train")[index], lambda task, shown, rng: moves))


def test_a_game_is_won_by_playing_it(url: tuple[str, str]) -> None:
    kind, address = url
    env, name = env_at(address), {"guessing": "act", "tools": "guess"}[kind]
    assert isinstance(env, Env)
    for index, task in enumerate(env.tasks("train")[:3]):
        number = task.payload["seed"] * 37 % 64
        trace = played(env, calls(name, -9, 99, number), index)
        assert trace.score is not None, trace.info
        assert (trace.stop_reason, trace.score.total) == ("done", 1.0)
        assert "guess a number from 0 to 63" in trace.messages[0].content
        told = [message.content for message in trace.messages if message.role == "tool"]
        assert [word for word, text in zip(("higher", "lower", "yes"), told, strict=True) if word in text] == [
            "higher",
            "lower",
            "yes",
        ]
        (tool,) = trace.tools
        assert (tool.name, [*tool.parameters["properties"]]) == (name, ["number"])


@pytest.mark.parametrize("agent", DISHONEST)
def test_idle_and_dishonest_agents_earn_nothing(url: tuple[str, str], agent: str) -> None:
    env = env_at(url[1])
    trace = asyncio.run(play(env, env.tasks("train")[0], DISHONEST[agent]))
    assert trace.score is not None
    assert (trace.stop_reason, trace.score.total, trace.score.parts["ended"]) == ("done", 0.0, 0.0)


def test_wrong_calls_are_answered_and_the_episode_goes_on(url: tuple[str, str]) -> None:
    kind, address = url
    name = {"guessing": "act", "tools": "guess"}[kind]
    env = env_at(address)
    number = env.tasks("train")[0].payload["seed"] * 37 % 64
    wrong = [
        *calls(name, "x"),
        *calls("other", 1),
        Message("assistant", tool_calls=[ToolCall("functions.x:0", name, "[")]),
    ]
    trace = played(env, [*wrong, *calls(name, number)])
    told = [message.content for message in trace.messages if message.role == "tool"]
    assert all(text.startswith("error: ") for text in told[:3]), told
    assert "integer" in told[0]
    assert trace.score is not None
    assert trace.score.total == 1


def test_an_episode_without_end_is_cut(url: tuple[str, str]) -> None:
    name = {"guessing": "act", "tools": "guess"}[url[0]]
    trace = played(env_at(url[1]), calls(name, *([99] * 20)))
    assert trace.score is not None
    assert (trace.stop_reason, trace.score.total) == ("truncated", 0.0)


@pytest.fixture(scope="module")
def mortal(python_with: Callable[[str], str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    server, address = start(python_with("openenv"), "guessing")
    yield server, address
    server.kill()
    server.wait()


def test_a_server_that_hangs_fails_or_dies_is_named(mortal: tuple[subprocess.Popen[bytes], str]) -> None:
    server, address = mortal
    env = env_at(address)
    failed = played(env, calls("act", -2))
    assert [message.content for message in failed.messages if message.role == "tool"] == ["error: lost the number"]
    hung = played(env, calls("act", -1))
    assert hung.score is not None
    assert (hung.stop_reason, hung.score.total, hung.score.parts) == ("truncated", 0.0, {"hung": 1.0})
    gone = played(env, calls("act", -3))
    assert gone.score is not None
    assert (gone.stop_reason, gone.score.total, gone.score.parts) == ("truncated", 0.0, {"server_gone": 1.0})
    server.wait(10)
    refused = played(env, [])
    assert refused.stop_reason == "env_error"
    assert "Connect" in refused.info["error"]


def test_what_is_no_openenv_server_is_named(tmp_path: Path) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async def episode() -> Trace:
        async with await asyncio.start_server(speak, "127.0.0.1", port := free_port()):
            env = env_at(f"http://127.0.0.1:{port}")
            return await play(env, env.tasks("train")[0], lambda task, shown, rng: [])

    trace = asyncio.run(episode())
    assert (trace.stop_reason, trace.score and trace.score.total) == ("env_error", 0.0)
    assert "InvalidStatus" in trace.info["error"]
