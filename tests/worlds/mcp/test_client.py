import asyncio
import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="needs the MCP SDK: pip install 'openk2[mcp]'")

from openk2.worlds.mcp.client import Limits, Server, ServerFailedError
from openk2.worlds.mcp.lock import Lock, ToolsChangedError
from openk2.worlds.mcp.process import Command
from tests.worlds.mcp.programs import kept, odd

QUICK = Limits(hello_seconds=10, call_seconds=0.5, line_bytes=1 << 20)


@contextlib.asynccontextmanager
async def connected(command, limits=QUICK, **more):
    server = Server("odd", command, limits=limits, **more)
    await server.connect()
    try:
        yield server
    finally:
        await server.close()


async def failure(server, tool):
    with pytest.raises(ServerFailedError) as caught:
        await server.call(tool, {})
    return caught.value


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_lists_and_calls_a_server_of_the_official_sdk():
    async def main():
        async with connected(kept(), Limits()) as server:
            assert list(server.offer.tools) == ["add", "keep", "read", "say"]
            assert server.offer.tools["add"].description == "Add two numbers."
            assert server.offer.tools["add"].parameters["required"] == ["a", "b"]
            assert server.offer.lock.version == "kept 1.2.3"
            assert await server.call("add", {"a": 2, "b": 3}) == {"sum": 5}
            assert await server.call("say", {"text": "hi"}) == {"text": "hi"}
            assert await server.call("say", {"text": '{"n": 1}'}) == {"n": 1}
            await server.call("keep", {"name": "a", "text": "b"})
            assert await server.call("read", {"name": "a"}) == {"result": "b"}
            for wrong in (("read", {"name": "z"}), ("add", {"a": "x"}), ("nothing", {})):
                assert list(await server.call(*wrong)) == ["error"]
            sums = await asyncio.gather(*(server.call("add", {"a": n, "b": n}) for n in range(32)))
            assert [answer["sum"] for answer in sums] == [2 * n for n in range(32)]
            assert server.num_restarts == 0

    asyncio.run(main())


def test_a_hang_costs_one_call_and_a_restart():
    async def main():
        async with connected(odd("well")) as server:
            hung = await failure(server, "hang")
            assert (hung.kind, str(hung)) == ("timeout", "timeout: odd gave no answer to hang within 0.5 s")
            assert await server.call("say", {"text": "on"}) == {"text": "on"}
            assert server.num_restarts == 1

    asyncio.run(main())


def test_a_slow_tool_does_not_cost_the_server():
    async def main():
        async with connected(kept_slow(), Limits(call_seconds=0.5)) as server:
            pid = await server.call("pid", {})
            assert (await failure(server, "slow")).kind == "timeout"
            assert await server.call("pid", {}) == pid
            assert server.num_restarts == 0

    asyncio.run(main())


def kept_slow():
    source = (
        "import asyncio, os\n"
        "from mcp.server.mcpserver import MCPServer\n"
        "server = MCPServer('slow')\n"
        "@server.tool()\n"
        "async def slow() -> str:\n    await asyncio.sleep(5)\n    return 'late'\n"
        "@server.tool()\n"
        "def pid() -> int:\n    return os.getpid()\n"
        "server.run()\n"
    )
    return Command((kept().argv[0], "-c", source))


def test_a_crash_is_named_with_its_last_words_and_a_limit_of_restarts():
    async def main():
        async with connected(odd("well"), Limits(restarts=1)) as server:
            for _ in range(2):
                crash = await failure(server, "crash")
                assert (crash.kind, str(crash)) == ("crashed", "crashed: odd ended with exit code 7: out of cheese")
            over = await failure(server, "say")
            assert str(over) == "crashed: odd is over after 1 restarts"

    asyncio.run(main())


def test_a_crash_fails_the_calls_beside_it_at_once():
    async def main():
        async with connected(odd("well"), Limits(call_seconds=30)) as server:
            began = time.monotonic()
            calls = [server.call(tool, {"text": tool}) for tool in ("say", "crash", "say", "say")]
            said, *others = await asyncio.gather(*calls, return_exceptions=True)
            assert said == {"text": "say"}
            assert {error.kind for error in others} == {"crashed"}
            assert time.monotonic() - began < 10

    asyncio.run(main())


def test_a_flood_is_stopped_at_its_limit():
    async def main():
        async with connected(odd("well"), Limits(call_seconds=30, line_bytes=1 << 20)) as server:
            began = time.monotonic()
            flood = await failure(server, "flood")
            assert str(flood) == "flooded: odd wrote a line of more than 1048576 bytes"
            assert time.monotonic() - began < 10
            assert await server.call("say", {"text": "on"}) == {"text": "on"}

    asyncio.run(main())


def test_a_long_answer_is_cut_and_marked():
    async def main():
        async with connected(odd("well"), Limits(answer_bytes=1001)) as server:
            assert await server.call("long", {}) == {"text": "é" * 500, "cut": "1001 of 200011 bytes"}

    asyncio.run(main())


def test_noise_is_counted_and_the_answer_comes():
    async def main():
        async with connected(odd("well")) as server:
            assert await server.call("noise", {}) == {"text": "done"}
            assert server.noise == 51
            await failure(server, "hang")
            await server.call("noise", {})
            assert server.noise == 102

    asyncio.run(main())


def test_noise_has_a_limit_too():
    async def main():
        async with connected(odd("well"), Limits(line_bytes=2000)) as server:
            for _ in range(4):
                await server.call("noise", {})
            assert str(await failure(server, "noise")) == "flooded: odd wrote more than 2000 bytes that are no JSON-RPC"

    asyncio.run(main())


def test_an_answer_against_the_protocol_is_named():
    async def main():
        async with connected(odd("well")) as server:
            assert str(await failure(server, "wrong")).startswith("protocol: odd answered wrong wrongly: ")
            assert await server.call("say", {"text": "on"}) == {"text": "on"}

    asyncio.run(main())


def test_a_server_that_reads_nothing_holds_up_nobody():
    async def main():
        async with connected(odd("well")) as server:
            assert "text" in await server.call("deaf", {})
            with pytest.raises(ServerFailedError, match="timeout"):
                await server.call("say", {"text": "x" * 500_000})
            assert await server.call("say", {"text": "on"}) == {"text": "on"}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (odd("silent"), "timeout: odd gave no hello within 1 s"),
        (odd("leaves"), "crashed: odd ended with exit code 1: no licence found"),
        (Command(("/no/such/program",)), "crashed: odd did not start: .*No such file or directory: '/no/such/program'"),
        (Command(("echo", "hello")), "crashed: odd ended with exit code 0"),
        (odd("endless"), "crashed: odd did not start: more than 1000 tools"),
        ("http://127.0.0.1:1/mcp", "crashed: odd did not start"),
    ],
)
def test_a_server_that_does_not_come_up_is_named(command, words):
    async def main():
        with pytest.raises(ServerFailedError, match=words):
            await Server("odd", command, limits=Limits(hello_seconds=1 if "silent" in str(command) else 10)).connect()

    asyncio.run(main())


def test_the_whole_process_group_is_gone_at_the_end():
    async def main():
        async with connected(odd("well")) as server:
            child = int((await server.call("child", {}))["text"])
            assert is_running(child)
        return child

    child = asyncio.run(main())
    deadline = time.monotonic() + 5
    while is_running(child):  # the kernel takes a moment
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_sees_few_variables():
    os.environ["OPENK2_TEST_SECRET"] = "1"
    command = odd("well")

    async def main():
        async with connected(Command(command.argv, {"GIVEN": "1"})) as server:
            return (await server.call("environment", {}))["text"].split()

    seen = asyncio.run(main())
    assert "GIVEN" in seen
    assert "OPENK2_TEST_SECRET" not in seen


def test_tools_that_change_while_it_runs_are_named_and_refused_until_accepted():
    async def main():
        async with connected(odd("well")) as server:
            assert not server.offer.suspicions
            await server.call("rewrite", {})
            for _ in range(2):
                changed = await failure(server, "say")
                assert changed.kind == "changed"
                assert "the tools of odd are not those accepted: changed say;" in str(changed)
            assert [found.pattern for found in server.offer.suspicions] == ["overrides"]
            server.accept()
            assert await server.call("say", {"text": "on"}) == {"text": "on"}

    asyncio.run(main())


def test_tools_that_came_with_a_restart_are_named_and_refused(tmp_path):
    async def main():
        async with connected(odd("grows", tmp_path / "seen")) as server:
            assert "extra" not in server.offer.tools
            await failure(server, "crash")
            assert "added extra" in str(await failure(server, "say"))

    asyncio.run(main())


def test_a_lockfile_holds_over_runs(tmp_path):
    async def main():
        async with connected(odd("grows", tmp_path / "seen")) as server:
            server.lock.write(tmp_path / "odd.lock.json")
        lock = Lock.read(tmp_path / "odd.lock.json")
        with pytest.raises(ToolsChangedError, match="added extra; look at them and write the lock anew"):
            async with connected(odd("grows", tmp_path / "seen"), lock=lock):
                pass

    asyncio.run(main())


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([*kept().argv, str(port)], stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}/mcp", process
    process.kill()
    process.wait(10)


def test_over_http_too(address):
    where, process = address

    async def main():
        deadline = time.monotonic() + 20
        server = Server("kept", where, limits=Limits(call_seconds=5, hello_seconds=5))
        while True:
            try:
                await server.connect()
                break
            except ServerFailedError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
        assert await server.call("add", {"a": 2, "b": 3}) == {"sum": 5}
        sums = await asyncio.gather(*(server.call("add", {"a": n, "b": n}) for n in range(8)))
        assert [answer["sum"] for answer in sums] == [2 * n for n in range(8)]
        process.kill()
        process.wait(10)
        assert (await failure(server, "add")).kind in {"timeout", "crashed", "protocol"}
        await failure(server, "add")
        await server.close()

    asyncio.run(main())
