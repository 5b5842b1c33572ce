import asyncio
import json

import pytest

pytest.importorskip("mcp", reason="needs the MCP SDK: pip install 'openk2[mcp]'")

from openk2.schema import CallError, Rubric, RubricItem, ToolCall
from openk2.worlds.mcp.client import Limits, Server, ServerFailedError
from openk2.worlds.mcp.state import Files
from openk2.worlds.mcp.world import McpWorld
from tests.worlds.mcp.programs import odd


def call(name, **arguments):
    return ToolCall("x", name, json.dumps(arguments))


def played(world, play):
    async def main():
        await world.start()
        try:
            return await play(world)
        finally:
            await world.close()

    return asyncio.run(main())


def test_two_servers_with_the_same_tools_are_told_apart_and_fail_apart():
    async def play(world):
        assert "one__say" in [tool.name for tool in world.tools]
        assert len({tool.name for tool in world.tools}) == 22
        assert await world.run(call("one__say", text="1")) == '{"text":"1"}'
        assert await world.run(call("two__crash")) == '{"error":"crashed: two ended with exit code 7: out of cheese"}'
        assert await world.run(call("one__say", text="2")) == '{"text":"2"}'
        assert await world.run(call("two__say", text="3")) == '{"text":"3"}'
        assert await world.run(call("say")) == '{"error":"unknown tool say"}'
        assert [called.fault for called in world.log] == [False, True, False, False, False]
        assert [server.num_restarts for server in world.servers] == [0, 1]

    played(McpWorld([Server("one", odd("well")), Server("two", odd("well"))]), play)


def test_malformed_calls_get_an_answer_and_are_logged():
    async def play(world):
        for bad in (
            ToolCall("x", "say", "{", CallError.TRUNCATED),
            ToolCall("x", "say", "{"),
            ToolCall("x", "say", "[" * 100_000),
            ToolCall("x", "say", "[]"),
        ):
            assert json.loads(await world.run(bad))["error"].startswith("malformed call: ")
        assert [called.arguments for called in world.log] == [None] * 4

    played(McpWorld([Server("odd", odd("well"))]), play)


def test_a_server_that_does_not_start_leaves_no_other_running():
    good = Server("good", odd("well"))
    world = McpWorld([good, Server("bad", odd("leaves"), limits=Limits(hello_seconds=5))])
    with pytest.raises(ServerFailedError, match="bad ended with exit code 1: no licence found"):
        played(world, None)
    assert good._session is None


def test_state_is_judged_past_the_server(tmp_path):
    files = Files(tmp_path)
    files.lay_out({"a.txt": "1"})
    has = RubricItem("a", "state", {"entity": "file", "key": "a.txt", "has": {"text": "2"}})
    rest = RubricItem("rest", "state", {"only": [["file", "a.txt"]]})
    rubric = Rubric((has, rest))

    async def play(world):
        await world.run(call("say", text="a.txt is 2 now"))
        assert (await world.score(rubric, "done")).total == 0
        (files.path / "a.txt").write_text("2")
        assert (await world.score(rubric, "done")).passed
        (files.path / "b.txt").write_text("2")
        assert (await world.score(rubric, "done")).total == 0

    played(McpWorld([Server("odd", odd("well"))], [files]), play)
