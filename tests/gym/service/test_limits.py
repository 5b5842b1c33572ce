"""What goes wrong, in an environment, a request or the service: each costs as little as it says, within its time."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.agent import EnvFailedError, run_episode
from openk2.gym.agents import Scripted
from openk2.gym.service.client import ServiceGoneError
from openk2.gym.service.config import ServiceConfig
from openk2.gym.service.env import ServiceEnv
from openk2.gym.service.serve import run
from openk2.schema import Message, Task
from tests.gym.service.odd import ODD, TOOL
from tests.gym.service.process import SECONDS, Process, make_env, serving

TASK = Task("count-0", "counting", "count", "train", {"to": 0})
TROUBLES = ("raised", "timed_out", "wrong_type")
CALL_SECONDS, HOLD_SECONDS, IDLE_SECONDS = 0.6, 0.3, 1.0


def say(text: str) -> Message:
    return Message("assistant", text)


@pytest.fixture(scope="module")
def service() -> Iterator[Process]:
    with serving(*ODD, call_seconds=CALL_SECONDS, hold_seconds=HOLD_SECONDS, body_bytes=20_000, body_seconds=0.5) as it:
        yield it


async def begun(service: Process, family: str = "counting", seconds: float = 10.0) -> ServiceEnv:
    env = ServiceEnv(service.url, family, seconds=seconds)
    await env.reset(TASK, 0)
    return env


class TestBrokenEnvironments:
    @pytest.mark.parametrize(
        ("family", "trouble", "told"),
        [
            ("raising", "raised", "KeyError: 'now'"),
            ("hanging", "timed_out", "no answer within 0.6 s"),
            ("stubborn", "timed_out", "no answer within 0.6 s"),
            ("sleeping", "timed_out", "went on for 0.3 s without awaiting"),
            ("spinning", "timed_out", "went on for 0.3 s without awaiting"),
            ("wrong_type", "wrong_type", "gave a dict where a Observation belongs"),
            ("wrong_message", "wrong_type", "gave a str where a Message belongs"),
            ("unwritable", "wrong_type", "gave what JSON cannot hold"),
        ],
    )
    def test_one_costs_its_own_episode_alone(self, service: Process, family: str, trouble: str, told: str) -> None:
        async def go() -> None:
            broken, neighbour = await begun(service, family), await begun(service, family)
            before = service.health()
            wanted = TimeoutError if trouble == "timed_out" else EnvFailedError
            with pytest.raises(wanted, match=told) as caught:
                await broken.step(say("now"))
            if isinstance(caught.value, EnvFailedError):
                assert caught.value.trouble == trouble
            assert (await neighbour.step(say("later"))).messages == [Message("user", "1 later")]
            after = service.health()
            assert after["alive"] == before["alive"] - 1
            assert after["counters"][trouble] == before["counters"].get(trouble, 0) + 1
            with pytest.raises(EnvFailedError, match="no episode"):
                await broken.step(say("still there?"))
            await broken.close()
            await broken.reset(TASK, 1)
            for env in (broken, neighbour):
                await env.close()

        asyncio.run(go())

    def test_one_that_cannot_be_made_or_closed_says_so(self, service: Process) -> None:
        async def go() -> None:
            with pytest.raises(EnvFailedError, match="OSError: no more of them"):
                await begun(service, "unmakable")
            with pytest.raises(EnvFailedError, match="OSError: the lid is stuck"):
                await (await begun(service, "unclosable")).close()

        alive = service.health()["alive"]
        asyncio.run(go())
        health = service.health()
        assert (health["alive"], health["counters"]["unclosable"]) == (alive, 1)

    def test_what_its_client_closes_is_not_counted_as_broken(self, service: Process) -> None:
        async def go() -> None:
            env = await begun(service)
            turn = asyncio.create_task(env.step(say("wait 0.4")))
            await asyncio.sleep(0.1)
            assert service.post(f"/episodes/{env._id}/close", {}).status_code == 200
            with pytest.raises(EnvFailedError, match="no episode"):
                await turn
            await env.close()

        before = service.health()["counters"]
        asyncio.run(go())
        after = service.health()["counters"]
        assert [after.get(trouble) for trouble in TROUBLES] == [before.get(trouble) for trouble in TROUBLES]

    @pytest.mark.parametrize(("family", "trouble"), [("raising", "raised"), ("hanging", "timed_out")])
    def test_the_loop_of_episodes_notes_the_trouble(self, service: Process, family: str, trouble: str) -> None:
        model = Scripted(lambda *_: [say("a"), say("now")], TASK, None)  # type: ignore[arg-type]
        trace = asyncio.run(run_episode(model, ServiceEnv(service.url, family), TASK, seed=0))
        assert (trace.stop_reason, trace.info["trouble"], trace.score.total) == ("env_error", trouble, 0.0)


class TestRepetition:
    @settings(max_examples=8, deadline=None)
    @given(repeats=st.lists(st.integers(1, 3), min_size=1, max_size=6))
    def test_a_repeated_call_acts_once(self, service: Process, repeats: list[int]) -> None:
        episode = f"/episodes/{uuid.uuid4().hex}"
        reset = {"family": "counting", "task": TASK.to_json(), "seed": 0}
        assert len({service.post(f"{episode}/reset", reset).text for _ in range(repeats[0])}) == 1
        for number, times in enumerate(repeats, 1):
            body = {"number": number, "message": say("x").to_json()}
            answers = [service.post(f"{episode}/step", body) for _ in range(times)]
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.json()["messages"][0]["content"] for answer in answers} == {f"{number} x"}
        assert service.post(f"{episode}/close", {}).status_code == 200

    def test_one_repeated_while_it_is_under_way_acts_once(self, service: Process) -> None:
        async def go() -> None:
            env = await begun(service)
            body = {"number": 1, "message": say("wait 0.2").to_json()}
            async with httpx2.AsyncClient(base_url=service.url, trust_env=False) as client:
                twice = [client.post(f"/episodes/{env._id}/step", json=body) for _ in range(2)]
                first, second = await asyncio.gather(*twice)
            assert first.text == second.text
            assert '"1 wait 0.2"' in first.text
            await env.close()

        asyncio.run(go())

    def test_a_call_out_of_turn_is_refused(self, service: Process) -> None:
        async def go() -> str:
            env = await begun(service)
            answer = service.post(f"/episodes/{env._id}/step", {"number": 3, "message": say("x").to_json()})
            assert answer.status_code == 409
            await env.close()
            return answer.json()["error"]["message"]

        assert asyncio.run(go()) == "call 3 is out of turn: the last one was 0"

    def test_a_client_hung_up_on_asks_again_and_gets_the_answer(self, service: Process) -> None:
        """A stand-in drops the first connection after the request has reached the service: the environment acts once."""

        async def go() -> None:
            dropped = 0

            async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal dropped
                theirs, ours = await asyncio.open_connection("127.0.0.1", service.port)

                async def forth() -> None:
                    while data := await reader.read(1 << 16):
                        ours.write(data)

                going = asyncio.create_task(forth())
                try:
                    while data := await theirs.read(1 << 16):
                        if b"1 drop me" in data and not dropped:
                            dropped += 1
                            break
                        writer.write(data)
                finally:
                    going.cancel()
                    for end in (writer, ours):
                        end.close()

            async with await asyncio.start_server(through, "127.0.0.1", 0) as proxy:
                port = proxy.sockets[0].getsockname()[1]
                env = ServiceEnv(f"http://127.0.0.1:{port}", "counting", seconds=5)
                await env.reset(TASK, 0)
                assert (await env.step(say("drop me"))).messages == [Message("user", "1 drop me")]
                assert (await env.step(say("go on"))).messages == [Message("user", "2 go on")]
                assert dropped == 1
                await env.close()

        asyncio.run(go())


class TestRequests:
    @pytest.mark.parametrize(
        ("path", "body", "status", "told"),
        [
            ("reset", {"family": "counting", "task": {}, "seed": 0}, 400, "task: it cannot be read: KeyError 'id'"),
            ("reset", {"family": "counting", "task": TASK.to_json()}, 400, "seed: Field required"),
            ("reset", {"family": "counting", "task": TASK.to_json(), "seed": 0, "x": 1}, 400, "x: Extra inputs"),
            (
                "reset",
                {"family": "none", "task": TASK.to_json(), "seed": 0},
                404,
                "no family 'none' here; there are counting",
            ),
            ("reset", [], 400, "the body: Input should be"),
            ("restore", {"family": "counting", "state": "?"}, 400, "state: "),
            ("step", {"number": -1, "message": {}}, 400, "number: "),
            ("step", {"number": 1, "message": {"role": "user"}}, 404, "no episode e: it was closed"),
            ("step", {"number": 1, "message": {}}, 400, "message: it cannot be read: KeyError 'role'"),
            ("score", {"number": 1, "trace": {}}, 400, "trace: it cannot be read"),
            ("fly", {}, 404, "Not Found"),
        ],
    )
    def test_what_is_wrong_is_told_in_a_line(
        self, service: Process, path: str, body: Any, status: int, told: str
    ) -> None:
        answer = service.post(f"/episodes/e/{path}", body)
        error = answer.json()["error"]
        assert (answer.status_code, error["trouble"]) == (status, None)
        assert error["message"].startswith(told)
        assert "\n" not in error["message"]

    @pytest.mark.parametrize("query", ["", "?split=train&start=-1", "?split=train&count=1001", "?split=train&start=x"])
    def test_a_page_that_is_none_is_refused(self, service: Process, query: str) -> None:
        assert service.client.get(f"/families/counting/tasks{query}").status_code == 400

    @pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 10_000, b"1" * 5000, b""])
    def test_what_is_no_json_is_refused(self, service: Process, content: bytes) -> None:
        headers = {"content-type": "application/json"}
        answer = service.client.post("/episodes/e/step", content=content, headers=headers)
        assert answer.status_code == 400
        assert "\n" not in answer.json()["error"]["message"]

    def test_pages_of_the_web_are_refused(self, service: Process) -> None:
        plain = service.client.post("/episodes/e/close", content=b"{}")
        other = service.client.get("/health", headers={"host": "attacker.example"})
        assert (plain.status_code, other.status_code) == (415, 400)

    def test_a_body_has_a_size(self, service: Process) -> None:
        async def go() -> None:
            env = await begun(service)
            with pytest.raises(EnvFailedError, match="the body is larger than 20000 bytes"):
                await env.step(say("x" * 20_000))
            await env.close()

        asyncio.run(go())

    def test_a_body_has_a_time(self, service: Process) -> None:
        head = b"POST /episodes/e/close HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        with socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS) as slow:
            slow.sendall(head)
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")


class TestCapacity:
    def test_episodes_are_limited_and_idle_ones_closed(self) -> None:
        async def go(service: Process) -> None:
            envs = [await begun(service) for _ in range(3)]
            with pytest.raises(EnvFailedError, match="3 episodes are alive, which is the most"):
                await begun(service)
            deadline = time.monotonic() + SECONDS
            while (health := service.health())["alive"] > 1:
                assert time.monotonic() < deadline
                await envs[0].step(say("I am busy"))
                await asyncio.sleep(0.05)
            assert (health["counters"]["idle"], health["counters"]["refused"]) == (2, 1)
            with pytest.raises(EnvFailedError, match="lay idle too long"):
                await envs[1].step(say("hello?"))
            busy = await begun(service)
            assert (await busy.step(say("wait 1.8"))).messages == [Message("user", "1 wait 1.8")]  # busy is not idle

        with serving("counting", most_episodes=3, idle_seconds=IDLE_SECONDS) as service:
            asyncio.run(go(service))


class TestWhereItRuns:
    def test_a_port_that_is_taken_is_named(self, service: Process) -> None:
        config = ServiceConfig(port=service.port)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {service.port}: Address already in use"):
            run(make_env, ["counting"], config, print)

    def test_beyond_the_main_thread_it_is_refused(self) -> None:
        listen = partial(run, make_env, ["counting"], ServiceConfig(port=0), print)
        with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="in a process's main thread alone"):
            pool.submit(listen).result(SECONDS)

    def test_an_unknown_family_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no task family called 'maths'"):
            run(make_env, ["maths"], ServiceConfig(port=0), print)


class TestTheServiceGoes:
    def test_killed_within_a_turn_it_is_missed_at_once_and_a_snapshot_goes_on_elsewhere(self) -> None:
        async def go() -> None:
            with serving("counting") as service:
                env = await begun(service)
                await env.step(say("a"))
                snapshot = env.snapshot()
                turn = asyncio.create_task(env.step(say("wait 20")))
                await asyncio.sleep(0.3)
                service.kill()
                began = time.monotonic()
                with pytest.raises(ServiceGoneError, match=f"{service.url} is gone"):
                    await turn
                await env.close()
                with pytest.raises(ServiceGoneError):
                    await env.reset(TASK, 0)
                assert time.monotonic() - began < 2
                port = service.port
            with serving("counting", port=port):
                env.restore(snapshot)
                assert env.snapshot() == snapshot
                there = await env.step(say("b"))
                assert (there.messages, there.tools) == ([Message("user", "2 b")], [TOOL])
                await env.close()

        asyncio.run(go())

    def test_stopped_within_a_turn_it_is_waited_for_no_longer_than_said(self) -> None:
        async def go(service: Process) -> None:
            env = await begun(service, seconds=0.5)
            service.signal(signal.SIGSTOP)
            with pytest.raises(TimeoutError, match=r"gave no answer to .*/step within 0.5 s"):
                await env.step(say("a"))
            with pytest.raises(TimeoutError, match=r"gave no answer to /health within 0.5 s"):
                _ = env.resumable
            began = time.monotonic()
            await env.close()
            assert time.monotonic() - began < 2
            service.signal(signal.SIGCONT)
            await env.reset(TASK, 0)
            await env.close()

        with serving("counting") as service:
            asyncio.run(go(service))

    def test_a_trace_names_what_became_of_it(self) -> None:
        with serving("counting") as service:

            def moves(*_: object) -> Iterator[Message]:
                yield say("a")
                service.kill()
                yield say("b")

            model = Scripted(moves, TASK, None)  # type: ignore[arg-type]
            trace = asyncio.run(run_episode(model, ServiceEnv(service.url, "counting"), TASK, seed=0))
        assert (trace.stop_reason, trace.info["trouble"]) == ("env_error", "raised")
        assert trace.info["error"].startswith(f"ServiceGoneError: {service.url} is gone")

    def test_told_to_stop_it_closes_all_episodes(self) -> None:
        async def go(service: Process) -> None:
            for _ in range(3):
                await begun(service)
            turn = asyncio.create_task((await begun(service)).step(say("wait 0.3")))
            await asyncio.sleep(0.1)
            service.signal(signal.SIGTERM)
            assert (await turn).messages == [Message("user", "1 wait 0.3")]

        with serving("counting", call_seconds=5) as service:
            asyncio.run(go(service))
            assert service.process.wait(SECONDS) == 0
            assert service.process.stdout is not None
            assert service.process.stdout.read() == "stopped; 4 episodes were closed\n"

    def test_what_never_stops_is_left_behind(self) -> None:
        async def go(service: Process) -> None:
            stubborn = await begun(service, "stubborn")
            with pytest.raises(TimeoutError, match="no answer"):
                await stubborn.step(say("now"))

        with serving("stubborn", call_seconds=0.1, stop_seconds=1) as service:
            asyncio.run(go(service))
            service.signal(signal.SIGTERM)
            assert service.process.wait(SECONDS) == 1
